/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of a chat template while it renders, and the state of the render. Values have Python's
 * meaning. Every string knows which of its bytes are untrusted (came from a user's variable), and
 * every operation keeps that knowledge.
 *
 * Failures are sticky: the first one is kept in run->status and everything after it does nothing
 * and gives undefined values, so callers need to check only in loops (jinja_step) and before they
 * keep a result.
 */
#ifndef KVERN_TEXT_JINJA_VALUE_H
#define KVERN_TEXT_JINJA_VALUE_H

#include "text/jinja.h"
#include "text/jinja_ast.h"

enum jinja_kind {
    JINJA_UNDEFINED, /* hint: the name, for messages */
    JINJA_ABSENT,    /* an argument not given; never seen by a template */
    JINJA_NONE,
    JINJA_BOOLEAN,
    JINJA_INTEGER,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_GENERATOR, /* what map, select and their like give: true, iterated once, no length */
    JINJA_DICT,
    JINJA_NAMESPACE, /* dict, may be assigned to */
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_LOOP,
};

struct jinja_string {
    const char *data; /* UTF-8 [n_bytes], no NUL after it */
    size_t n_bytes;
    const uint8_t *marks; /* [n_bytes] 1: untrusted; NULL: all bytes are as is_untrusted says */
    bool is_untrusted;
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const struct jinja_string *string;
        struct jinja_list *list;
        struct jinja_dict *dict;
        const struct jinja_macro *macro;
        const struct jinja_function *function;
        const struct jinja_loop *loop;
        const struct jinja_text *hint; /* of JINJA_UNDEFINED; may be NULL */
    };
};

struct jinja_list {
    struct jinja_value *items; /* [n] */
    size_t n;
    size_t capacity;
};

struct jinja_entry {
    struct jinja_value key;
    struct jinja_value value;
};

struct jinja_dict {
    struct jinja_entry *entries; /* [n] in order of insertion */
    size_t n;
    size_t capacity;
};

struct jinja_loop {
    const struct jinja_list *list;
    size_t index;
};

struct jinja_binding {
    struct jinja_text name;
    struct jinja_value value;
};

/* Names of one scope; a look-up goes to the parent for what is not here. */
struct jinja_frame {
    struct jinja_frame *parent;
    struct jinja_binding *bindings; /* [n] */
    size_t n;
    size_t capacity;
};

struct jinja_macro {
    const struct jinja_node *node; /* JINJA_NODE_MACRO or JINJA_NODE_CALL_BLOCK */
    struct jinja_frame *frame;     /* where it was defined */
};

struct jinja_arguments {
    struct jinja_value *items; /* [n] positional */
    size_t n;
    struct jinja_binding *named; /* [n_named] */
    size_t n_named;
};

struct jinja_run;

/* A filter, test, method or global. `self` is what stands before '|', 'is' or '.'. */
typedef struct jinja_value (*jinja_builtin_fn)(struct jinja_run *run, struct jinja_value self,
                                               const struct jinja_arguments *arguments);

/* parameters: "a,b": arguments->items is then [2], each JINJA_ABSENT if not given. NULL: the
 * function takes its arguments as they come. */
struct jinja_builtin {
    const char *name;
    const char *parameters;
    jinja_builtin_fn call;
};

struct jinja_function {
    const struct jinja_builtin *builtin;
    struct jinja_value self;
};

/* A string that is being made: bytes and their marks grow side by side. */
struct jinja_builder {
    struct jinja_run *run;
    char *data;
    uint8_t *marks;
    size_t n_bytes;
    size_t capacity;
    size_t n_untrusted;
};

enum jinja_signal { JINJA_RUNS_ON, JINJA_BREAKS, JINJA_CONTINUES };

struct jinja_run {
    struct jinja_arena arena;
    struct jinja_limits limits;
    int64_t steps_left;
    int64_t now;
    int depth;
    int line;
    enum jinja_signal signal;
    struct jinja_frame *frame;
    struct jinja_builder *out; /* where {{ }} and text go now */
    kvern_status status;
    kvern_error *err;
};

/* jinja_value.c: failure, work, construction */
struct jinja_value jinja_fail(struct jinja_run *run, kvern_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Charges `n` units of work; false once the render has failed. */
bool jinja_step(struct jinja_run *run, size_t n);
/* false (and a failure) when nesting is too deep; pairs with jinja_leave. */
bool jinja_descend(struct jinja_run *run);
void jinja_leave(struct jinja_run *run);
/* Zeroed memory of the render; NULL only after a failure. */
void *jinja_new(struct jinja_run *run, size_t count, size_t item_bytes);

struct jinja_value jinja_undefined(void);
struct jinja_value jinja_undefined_named(struct jinja_run *run, const char *name, size_t n_bytes);
struct jinja_value jinja_none(void);
struct jinja_value jinja_boolean(bool boolean);
struct jinja_value jinja_integer(int64_t integer);
struct jinja_value jinja_float(double number);
struct jinja_value jinja_string_of(struct jinja_run *run, const char *data, size_t n_bytes,
                                   bool is_untrusted);                     /* data is not copied */
struct jinja_value jinja_literal(struct jinja_run *run, const char *text); /* trusted, not copied */
struct jinja_value jinja_part(struct jinja_run *run, const struct jinja_string *string,
                              size_t begin, size_t end); /* shares the bytes */
struct jinja_value jinja_list_new(struct jinja_run *run, enum jinja_kind kind);
void jinja_list_add(struct jinja_run *run, struct jinja_value list, struct jinja_value item);
struct jinja_value jinja_dict_new(struct jinja_run *run);
/* Adds or replaces; fails for a key that cannot be one. */
void jinja_dict_put(struct jinja_run *run, struct jinja_value dict, struct jinja_value key,
                    struct jinja_value value);
/* false: not there. */
bool jinja_dict_get(struct jinja_run *run, const struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value *value);
bool jinja_dict_get_text(struct jinja_run *run, const struct jinja_dict *dict,
                         struct jinja_text key, struct jinja_value *value);

bool jinja_is_true(struct jinja_run *run, struct jinja_value value);
bool jinja_is_number(struct jinja_value value); /* booleans count */
double jinja_number_of(struct jinja_value value);
bool jinja_equals(struct jinja_run *run, struct jinja_value a, struct jinja_value b);
/* < 0, 0, > 0; fails for values without an order. */
int jinja_order(struct jinja_run *run, struct jinja_value a, struct jinja_value b);
bool jinja_contains(struct jinja_run *run, struct jinja_value container, struct jinja_value item);
/* The items of anything Python can iterate; a generator is empty afterwards. Never NULL. */
const struct jinja_list *jinja_iterate(struct jinja_run *run, struct jinja_value value);
/* -1 after a failure: the value has no length. */
int64_t jinja_length(struct jinja_run *run, struct jinja_value value);
/* "str", "dict", ...: Python's type name. */
const char *jinja_type_name(struct jinja_value value);
/* What an undefined value is called in messages: "'x' is undefined". */
struct jinja_value jinja_fail_undefined(struct jinja_run *run, struct jinja_value value);

/* jinja_print.c: builders, str(), repr(), tojson */
void jinja_add(struct jinja_builder *builder, const char *data, size_t n_bytes, bool is_untrusted);
void jinja_add_literal(struct jinja_builder *builder, const char *text);
void jinja_add_code_point(struct jinja_builder *builder, uint32_t code_point, bool is_untrusted);
/* string[begin, end) with its marks */
void jinja_add_part(struct jinja_builder *builder, const struct jinja_string *string, size_t begin,
                    size_t end);
struct jinja_value jinja_built(struct jinja_builder *builder);
/* Python's str(value), or repr(value). */
void jinja_add_str(struct jinja_builder *builder, struct jinja_value value);
void jinja_add_repr(struct jinja_builder *builder, struct jinja_value value);
/* A value as a string: itself, or str() of it. */
const struct jinja_string *jinja_text_of(struct jinja_run *run, struct jinja_value value);
bool jinja_mark_at(const struct jinja_string *string, size_t at);

struct jinja_json_style {
    const char *indent; /* NULL: one line; else the white space of one level */
    size_t n_indent;
    struct jinja_text item_separator;
    struct jinja_text key_separator;
    bool is_ascii;
    bool sorts_keys;
};
/* Python's json.dumps. */
void jinja_add_json(struct jinja_builder *builder, struct jinja_value value,
                    const struct jinja_json_style *style, size_t level);
/* A jansson value as a template's; its strings are shared and must outlive the render. */
struct jinja_value jinja_from_json(struct jinja_run *run, const json_t *json, bool is_untrusted);

/* jinja_operators.c */
struct jinja_value jinja_binary(struct jinja_run *run, enum jinja_operator op, struct jinja_value a,
                                struct jinja_value b);
bool jinja_compare(struct jinja_run *run, enum jinja_operator op, struct jinja_value a,
                   struct jinja_value b);
struct jinja_value jinja_item(struct jinja_run *run, struct jinja_value value,
                              struct jinja_value key); /* value[key] */
struct jinja_value jinja_attribute(struct jinja_run *run, struct jinja_value value,
                                   struct jinja_text name); /* value.name */
/* value[begin:end:step]; an absent part is JINJA_NONE */
struct jinja_value jinja_slice(struct jinja_run *run, struct jinja_value value,
                               const struct jinja_value parts[3]);
/* Python's "%" on a string, and str.format. */
struct jinja_value jinja_percent_format(struct jinja_run *run, const struct jinja_string *format,
                                        const struct jinja_arguments *arguments);
struct jinja_value jinja_brace_format(struct jinja_run *run, const struct jinja_string *format,
                                      const struct jinja_arguments *arguments);

/* jinja_methods_text.c: the methods of strings */
extern const struct jinja_builtin jinja_text_methods[]; /* [jinja_n_text_methods] */
extern const size_t jinja_n_text_methods;

/* jinja_filters.c, jinja_tests.c, jinja_methods.c, jinja_globals.c: NULL if there is none */
const struct jinja_builtin *jinja_find_filter(struct jinja_text name);
const struct jinja_builtin *jinja_find_test(struct jinja_text name);
const struct jinja_builtin *jinja_find_method(struct jinja_value self, struct jinja_text name);
void jinja_add_globals(struct jinja_run *run, struct jinja_frame *frame);

/* jinja_call.c */
/* Calls a builtin with its arguments bound to its parameters; `what` is "filter", "test", ... */
struct jinja_value jinja_call_builtin(struct jinja_run *run, const char *what,
                                      const struct jinja_builtin *builtin, struct jinja_value self,
                                      const struct jinja_arguments *arguments);
struct jinja_value jinja_call_filter(struct jinja_run *run, struct jinja_text name,
                                     struct jinja_value self,
                                     const struct jinja_arguments *arguments);
bool jinja_call_test(struct jinja_run *run, struct jinja_text name, struct jinja_value self,
                     const struct jinja_arguments *arguments);
/* Finds among n builtins. */
const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *builtins, size_t n,
                                               struct jinja_text name);
/* string[begin, end) in upper or lower case, each character on its own, with its mark. */
void jinja_add_upper(struct jinja_builder *builder, const struct jinja_string *string, size_t begin,
                     size_t end);
void jinja_add_lower(struct jinja_builder *builder, const struct jinja_string *string, size_t begin,
                     size_t end);
/* string without the characters of `characters` (NULL: white space) at its begin and end */
struct jinja_value jinja_strip(struct jinja_run *run, const struct jinja_string *string,
                               const struct jinja_string *characters, bool at_begin, bool at_end);
struct jinja_value jinja_replace(struct jinja_run *run, const struct jinja_string *string,
                                 const struct jinja_string *old, const struct jinja_string *new_,
                                 int64_t max_count);

/* jinja_eval.c */
struct jinja_value jinja_evaluate(struct jinja_run *run, const struct jinja_node *node);
void jinja_bind(struct jinja_run *run, struct jinja_frame *frame, struct jinja_text name,
                struct jinja_value value);
bool jinja_look_up(const struct jinja_frame *frame, struct jinja_text name,
                   struct jinja_value *value);
struct jinja_value jinja_evaluate_filters(struct jinja_run *run, const struct jinja_node *filters,
                                          struct jinja_value innermost);
/* jinja_render.c */
void jinja_run_node(struct jinja_run *run, const struct jinja_node *node);
struct jinja_value jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                                    const struct jinja_arguments *arguments);

#endif
