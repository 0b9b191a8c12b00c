# SPDX-License-Identifier: Apache-2.0
"""Writes jinja.json: small templates and what transformers' jinja2 environment makes of them.

Needs transformers 4.57.6 and jinja2 3.1.6. Run with TZ=UTC: strftime_now is given a fixed clock.
An expectation of null is an error."""
import datetime
import json
import os
import pathlib

os.environ["TZ"] = "UTC"
from transformers.utils.chat_template_utils import _compile_jinja_template

V = {
    "s": " Hello, Wörld! ", "empty": "", "n": 7, "neg": -7, "f": 2.5, "big": 1e20, "small": 1e-7, "no": None, "yes": True,
    "l": [3, 1, 2], "words": ["b", "A", "c", "a"], "d": {"b": 1, "a": "x", "items": 5},
    "msgs": [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": None}],
    "nested": {"x": [{"y": "z"}]}, "quote": "it's \"q\" <&>\n\t\u00e9\u200b\U0001f600", "lines": "a\nb\n\nc\r\nd",
}
T = r"""
plain
{{ s }}|{{ s|trim }}|{{ s|length }}|{{ s|upper }}|{{ s|lower }}
{{ s|trim|capitalize }}|{{ 'hello world-foo (bar'|title }}|{{ 'hello wORLD'.title() }}|{{ "it's".title() }}
{{ n }} {{ f }} {{ big }} {{ small }} {{ no }} {{ yes }} {{ missing }} {{ l }} {{ d }}
{{ quote }}{{ [quote] }}{{ quote|tojson }}{{ quote|e }}
{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 1 ~ 'a' ~ none ~ true ~ 1.0 }}
{{ 'a' + 'b' * 3 }} {{ [1] + [2] * 2 }} {{ (1,) + (2,) }} {{ 3 * 'ab' }}
{{ 'a' 'b' "c" }}
{{ 'a\nb\t\x41\u00e9\\\'\"' }} {{ 'a\qb' }} {{ "\101" }}
{{ 0x1f }} {{ 0b101 }} {{ 0o17 }} {{ 1_000 }} {{ 1.5e3 }} {{ 1e-5 }} {{ 1.0 }} {{ 100000000000000000000.0 }} {{ 123456789.123 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' == 1 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ none == none }}
{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 1 in [1] }} {{ 'a' in d }} {{ 'z' in d }} {{ 'a' in missing }}
{{ 1 and 0 }} {{ 0 or 'x' }} {{ not 1 }} {{ not missing }} {{ '' or none }} {{ not 1 == 2 }}
{{ 'a' if yes else 'b' }} {{ 'a' if no else 'b' }} {{ 'a' if no }} {{ 'x' if 0 else 'y' if 0 else 'z' }}
{{ l[0] }} {{ l[-1] }} {{ l[9] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-2:] }} {{ l[2:0:-1] }}
{{ 'Wörld'[1] }} {{ 'Wörld'[::-1] }} {{ 'Wörld'[1:3] }} {{ 'Wörld'[-2:] }} {{ 'Wörld'[::2] }} {{ 'ab'[5] }} {{ 'abc'[-9:2] }}
{{ d.a }} {{ d['a'] }} {{ d.items()|list }} {{ d['items'] }} {{ d.nope }} {{ d.get('nope') }} {{ d.get('nope', 3) }} {{ d.get('a') }}
{{ nested.x[0].y }} {{ nested['x'][0]['y'] }} {{ nested.x.0.y }}
{{ d.keys()|list }} {{ d.values()|list }} {{ d|items|list }} {{ d|dictsort }} {{ d|list }} {{ d|length }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|dictsort(reverse=true) %}{{ k }}={{ v }};{% endfor %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }} {% endfor %}
{% for x in [] %}a{% else %}b{% endfor %}{% for x in missing %}a{% else %}c{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{{ loop.last }} {% endfor %}
{% for x in l if x > 10 %}{{ x }}{% else %}none{% endfor %}
{% for x in 'héy' %}[{{ x }}]{% endfor %}
{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}
{% for x in [1,2] %}{% for y in [1,2] %}{{ loop.depth }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }} {{ ns.nope }}
{% set ns = namespace() %}{% set ns.found = false %}{{ ns.found }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}
{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x|length }}
{% set x | upper | trim %} abc {% endset %}[{{ x }}]
{% if n > 10 %}a{% elif n > 5 %}b{% else %}c{% endif %}{% if no %}{% else %}d{% endif %}
{% if yes %}{% set q = 1 %}{% endif %}{{ q }}
{% macro m(a, b='B', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(a=5) }}{{ m() }}
{% macro m(n) %}{% if n > 0 %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(4) }}
{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in{% endcall %}
{% macro w() %}<{{ caller('z') }}>{% endmacro %}{% call(x) w() %}in{{ x }}{% endcall %}
{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% filter upper %}abc{{ s }}{% endfilter %}
{% generation %}x{{ n }}{% endgeneration %}y
{# comment #}a{#- b -#} c
{% raw %}{{ x }}{% y %}{% endraw %}
a {%- raw -%} {{ x }} {%- endraw -%} b
{{ '{{' }} {{ "%}" }} {{ {'a': {}} }} {{ {} }} {{ [] }} {{ () }} {{ (1,) }}
{{- n -}} x {{- n }} y {{ n -}} z
a  {%- if yes -%}  b  {%- endif -%}  c
a  {%+ if yes %}b{% endif +%}  c
{{ [1, 'a', none, true, 2.0, {'k': [1]}] }}
{{ [1, 'a', none, true, 2.0, {'k': [1]}]|tojson }}
{{ d|tojson(indent=2) }} {{ []|tojson(indent=2) }} {{ {'a': []}|tojson(indent=4) }} {{ [1,[2]]|tojson(indent=1) }}
{{ d|tojson(sort_keys=true) }} {{ d|tojson(separators=(',', ':')) }} {{ 'é😀'|tojson(ensure_ascii=true) }} {{ {1: 2, none: 3, true: 4, 1.5: 2}|tojson }}
{{ missing|tojson }}
{{ missing|default('x') }} {{ no|default('x') }} {{ no|default('x', true) }} {{ empty|d('y', boolean=true) }} {{ missing|default }}
{{ l|join }} {{ l|join(', ') }} {{ words|join('-') }} {{ msgs|join(',', attribute='role') }} {{ 'abc'|join('.') }}
{{ l|first }} {{ l|last }} {{ []|first }} {{ 'abc'|first }} {{ 'abc'|last }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ msgs|sort(attribute='role')|map(attribute='role')|list }}
{{ words|unique|list }} {{ [1,1,2]|unique|list }} {{ l|reverse|list }} {{ 'abc'|reverse }} {{ 'abc'|list }}
{{ msgs|map(attribute='role')|list }} {{ msgs|map(attribute='zip', default='q')|list }} {{ words|map('upper')|join }} {{ words|map('replace', 'a', 'X')|list }}
{{ msgs|selectattr('role', 'equalto', 'user')|list }} {{ msgs|rejectattr('role', 'eq', 'user')|map(attribute='role')|list }} {{ msgs|selectattr('content')|list|length }} {{ msgs|selectattr('content', 'none')|list|length }}
{{ l|select('odd')|list }} {{ l|reject('gt', 1)|list }} {{ [0, 1, '']|select|list }} {{ [0, 1, '']|reject|list }}
{% if [] | select %}generators are true{% endif %}
{{ (l|map('string'))|length }}
{{ l|sum }} {{ l|min }} {{ l|max }} {{ words|min }} {{ []|max }} {{ l|length }} {{ l|count }}
{{ '3'|int + 1 }} {{ '3.7'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 3.9|int }} {{ 'ff'|int(base=16) }} {{ none|int }} {{ true|int }} {{ ' 12 '|int }}
{{ '3.5'|float }} {{ 'x'|float }} {{ 3|float }} {{ 'x'|float(1.5) }}
{{ 2.567|round(2) }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.1|round(method='ceil') }} {{ 2.9|round(0, 'floor') }} {{ 5|round }} {{ 1234|round(-2) }} {{ 0.125|round(2) }}
{{ -3|abs }} {{ neg|abs }} {{ -2.5|abs }} {{ -n }} {{ +n }} {{ - n ** 2 }}
{{ 'a\nb\n\nc'|indent }} {{ 'a\nb'|indent(2, true) }} {{ 'a\n\nb'|indent(1, blank=true) }} {{ 'a\nb'|indent('>') }}
{{ 'aXbXc'|replace('X', '-') }} {{ 'aXbXc'|replace('X', '-', 1) }} {{ 'abc'|replace('', '.') }} {{ 'aXb'.replace('X', '') }} {{ 'aaa'.replace('a', 'b', 2) }}
{{ '%s is %d and %.2f%%' % ('x', 3, 1.5) }} {{ '%5d|%-5d|%05d|%x' % (1, 2, 3, 255) }} {{ '%s' % n }} {{ '%r' % 'a' }} {{ "%s-%s"|format('a', 1) }} {{ '%5s|%-5s|' % ('a', 'b') }}
{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}'.format(x=3) }} {{ '{{}}'.format() }}
{{ ' a b '.strip() }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ '\n a\n'.strip('\n') }}|{{ 'abcba'.lstrip('ab') }}
{{ 'a b  c'.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a</think>b'.split('</think>')[-1] }}
{{ lines.splitlines() }} {{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.startswith('') }} {{ 'a'.startswith('abc') }}
{{ 'abc'.find('c') }} {{ 'éa'.find('a') }} {{ 'abc'.find('x') }} {{ 'abab'.rfind('ab') }} {{ 'aXbX'.count('X') }} {{ 'ab'.count('') }}
{{ 'aBc'.upper() }} {{ 'aBc'.lower() }} {{ 'aBc d'.capitalize() }} {{ 'straße'.upper() }} {{ ', '.join(['a', 'b']) }}
{{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('x') }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }}
{{ '12'.isdigit() }} {{ 'a1'.isdigit() }} {{ ''.isdigit() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'a1'.isalnum() }}
{{ l.index(1) }} {{ l.count(3) }} {{ (1, 2).index(2) }}
{{ n is defined }} {{ missing is defined }} {{ missing is undefined }} {{ no is none }} {{ n is none }} {{ no is not none }} {{ d.nope is defined }}
{{ s is string }} {{ n is string }} {{ d is mapping }} {{ l is mapping }} {{ l is iterable }} {{ n is iterable }} {{ s is iterable }} {{ l is sequence }} {{ d is sequence }} {{ n is sequence }} {{ missing is iterable }}
{{ n is number }} {{ f is number }} {{ yes is number }} {{ n is integer }} {{ yes is integer }} {{ f is float }} {{ n is float }} {{ yes is boolean }} {{ n is boolean }}
{{ yes is true }} {{ yes is false }} {{ 1 is true }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ 'a' is in 'abc' }} {{ 1 is in([1]) }}
{{ n is eq 7 }} {{ n is ne(7) }} {{ n is gt 3 }} {{ n is lt 3 }} {{ n is ge 7 }} {{ n is le 6 }} {{ n is equalto 7 }} {{ n is sameas n }} {{ n is lessthan 8 }} {{ n is greaterthan 8 }}
{{ range is callable }} {{ n is callable }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ 'trim' is filter }} {{ 'defined' is test }}
{{ n is not odd and s is string or no }} {{ (n is odd) ~ 'x' }} {{ not n is odd }}
{{ range(3)|list }} {{ range(1, 4)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }}
{{ dict(a=1, b=2) }} {{ dict({'a': 1}, b=2) }} {{ dict() }}
{{ strftime_now('%Y-%m-%d %H:%M') }} {{ strftime_now('%d %b %Y') }}
{{ raise_exception('no') }}
{{ l.append(1) }}
{{ d.update({}) }}
{{ d.pop }}|{{ l.append is defined }}
{{ missing.x }}
{{ missing + 1 }}
{{ missing() }}
{{ no.x }}|{{ n.x }}|{{ s.x }}
{{ no() }}
{{ 'a' + 1 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ n|length }}
{{ none|length }}
{% for x in none %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{{ 1 in 5 }}
{{ 1 in 'a' }}
{{ 'a'|nofilter }}
{{ 'a' is notest }}
{{ [1, 2 }}
{{ }}
{% if %}{% endif %}
{% for x in l %}
{% endif %}
{% set d.x = 1 %}
{{ 'abc
{{ 1 2 }}
{% if x %}{% endfor %}
{{ (none or 'a')|upper }} {{ s|trim|length + 1 }} {{ -1|abs }} {{ 'a' ~ 1 + 2 }} {{ 2 * 3 ~ 4 }} {{ 2 + 3 ~ 4 }}
{{ 'x' if missing is defined else 'y' }} {{ 'x' if n is defined and n > 3 else 'y' }} {{ l[n - 7] }} {{ l[1:n] }} {{ 'a'.upper().lower() }}
{{ [l, words]|map('first')|list }} {{ [[1, 2], [3]]|map('length')|sum }} {{ [[1], [2]]|sum(start=[]) }} {{ msgs|map(attribute='content')|select('string')|join('|') }}
{{ nested.x|map(attribute='y')|list }} {{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }} {{ d|attr('nope') }} {{ 'abc'|safe }} {{ n|string + 'x' }}
{{ words|sort|join(',') }}{% set words = words + ['z'] %}{{ words|last }} {{ 'a,b'.split(',')|last }} {{ (1, 2)[0] }} {{ {'a': 1}['a'] }} {{ {'a': 1, 'a': 2} }}
{{ '' is defined }} {{ 'é' }} {{ '日本語'|length }} {{ '日本語'[1:] }} {{ '  \u3000x\u3000 '|trim }} {{ '😀a'|reverse }} {{ 'ÀÉ'|lower }}
{{ true }} {{ True }} {{ false }} {{ None }} {{ true + 1 }} {{ true and 'x' }} {{ [true, none]|tojson }} {{ 1.0 == true }} {{ -0.0 }}
{{ 0.1 + 0.2 }} {{ 1/3 }} {{ 1e16 }} {{ 1e15 }} {{ 1.5e300 * 1e10 }} {{ 1e308 * 10 }} {{ 5e-324 }} {{ 0.0001 }} {{ 0.00001 }} {{ 3.0|int }} {{ 1e3|tojson }}
{{ loop }}
{% for m in msgs %}{{ '<|' + m.role + '|>' + (m.content or 'nothing') + ('' if loop.last else '\n') }}{% endfor %}
{% for m in msgs[1:] %}{% if loop.first and m['role'] != 'user' %}{{ raise_exception('x') }}{% endif %}{{ m['role']|title }}{% endfor %}
{% set ns = namespace(multi=true, last=msgs|length - 1) %}{% for m in msgs[::-1] %}{% set i = (msgs|length - 1) - loop.index0 %}{% if ns.multi and m.role == 'user' %}{% set ns.multi = false %}{% set ns.last = i %}{% endif %}{% endfor %}{{ ns.last }}
""".strip("\n").split("\n")
T += [
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n", "a\n  {{ n }}\n  b\n\n", "  {# c #}\n  x\n {# d #} y", "{% for x in l %}\n  - {{ x }}\n{% endfor %}\n\nend\n",
    "a\r\nb\rc{% if yes %}\r\nd{% endif %}\r\n", "x {% if yes %}  \n y{% endif %}", "{%- for x in l -%}\n  {{ x }}\n{%- endfor -%}\n", "\n\n{{ n }}\n\n",
    "{% raw %}\n a {{ b }}\n{% endraw %}\nc", "  {%- if yes %}\n  a\n  {%+ endif %}\nb", "a{#- x -#}   \n b", "\u00a0{%- if yes -%}\u00a0\nq{% endif %}",
    "{% set x %}\n  a\n  b\n{% endset %}[{{ x }}]", "{%\n if yes\n %}x{%\nendif\n%}", "{{\n n\n }}\n{{ s }}", "a {% raw -%}  \n x {% endraw %}  \n y", "{% if yes %}a{% endif %}\n\nb", "",
    "\n", "{", "{ {", "a{", "{{ '\\\n' }}", "\t{% if yes %}x{% endif %}\n\t{% if yes %}\ny{% endif %}",
]
rows = []
for text in T:
    try:
        template = _compile_jinja_template(text)
        template.globals["strftime_now"] = lambda f: datetime.datetime(2023, 11, 14, 22, 13, 20).strftime(f)
        expected = template.render(**V)
    except Exception:
        expected = None
    rows.append({"template": text, "expected": expected})
out = pathlib.Path(__file__).parent / "jinja.json"
lines = [json.dumps(r) for r in rows]
out.write_text('{"variables": ' + json.dumps(V) + ',\n"rows": [\n' + ",\n".join(lines) + "\n]}\n")
print(len(rows), "rows")
