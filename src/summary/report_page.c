/* SPDX-License-Identifier: Apache-2.0
 *
 * Constant text. Neither may hold "</": it would end its element. The script sees the report as
 * text of the page only and makes no markup of it.
 */
#include "summary/report_page.h"

const char report_page_style[] =
    "\n:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5d6470;--line:#d9dce1;--paper:#fff;"
    "--code:#f2f3f5;--bad:#b3261e}\n"
    "@media (prefers-color-scheme:dark){:root{--ink:#e4e6ea;--soft:#9aa3af;--line:#363b43;"
    "--paper:#15171a;--code:#22262b;--bad:#ff8a80}}\n"
    "body{margin:2rem auto;padding:0 1rem;max-width:60rem;color:var(--ink);background:var(--paper);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\n"
    "code{background:var(--code);padding:.05em .3em;border-radius:3px;overflow-wrap:anywhere}\n"
    "details{margin:.2rem 0}details>*:not(summary){margin-left:1.2rem}\n"
    "summary{cursor:pointer}p,ul{margin:.3rem 0}\n"
    ".soft{color:var(--soft);font-size:.9em}.bad{color:var(--bad)}\n"
    "table{border-collapse:collapse;margin:.6rem 0}\n"
    "th,td{border-bottom:1px solid var(--line);padding:.2rem .7rem;text-align:left}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "input{font:inherit;width:100%;box-sizing:border-box;padding:.4rem .6rem;margin:.6rem 0;"
    "color:inherit;background:var(--code);border:1px solid var(--line);border-radius:4px}\n"
    "[hidden]{display:none!important}\n";

const char report_page_script[] =
    "\n(function () {\n"
    "  var box = document.getElementById('search'), found = document.getElementById('found');\n"
    "  var list = function (kind) { return Array.from(document.querySelectorAll(kind)); };\n"
    "  var files = list('#tree .file'), directories = list('#tree .directory');\n"
    "  var wasOpen = directories.map(function (d) { return d.open; });\n"
    "  var texts = files.map(function (f) {\n"
    "    return (f.dataset.path + ' ' + f.textContent).toLowerCase();\n"
    "  });\n"
    "  function search() {\n"
    "    var words = box.value.toLowerCase().split(/\\s+/).filter(Boolean), n = 0;\n"
    "    files.forEach(function (f, i) {\n"
    "      var hit = words.every(function (w) { return texts[i].includes(w); });\n"
    "      f.hidden = !hit;\n"
    "      n += hit;\n"
    "      f.open = words.length > 0 && hit && n <= 50;\n"
    "    });\n"
    "    directories.forEach(function (d, i) {\n"
    "      d.hidden = words.length > 0 && !d.querySelector('.file:not([hidden])');\n"
    "      d.open = words.length > 0 ? !d.hidden : wasOpen[i];\n"
    "    });\n"
    "    found.textContent = words.length > 0 ? n + ' of ' + files.length + ' files' : '';\n"
    "  }\n"
    "  box.hidden = false;\n"
    "  box.addEventListener('input', search);\n"
    "})();\n";
