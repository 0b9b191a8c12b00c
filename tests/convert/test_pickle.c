/* SPDX-License-Identifier: Apache-2.0
 *
 * Pickles written by hand: each opcode that is known, what is refused and where, and the bounds.
 */
#include "convert/support_gguf.h"
#include "convert/support_torch.h"
#include "test.h"

#include "base/memory.h"
#include "convert/pickle.h"

#include <stdlib.h>
#include <string.h>

#define P2 "\x80\x02"
#define ORDERED "ccollections\nOrderedDict\n)R"
#define STORAGE                                                                                    \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                             \
    "0X\3\0\0\0cpuK\6tQ"

/* A literal that may hold NULs, without its last one. */
#define BYTES(literal) literal, sizeof(literal) - 1

/* From an exact-size copy, so that a sanitizer sees a byte too many; strings stay readable in it
 * until the caller frees it. */
static kvern_status parse(struct pickle *pickle, const void *bytes, size_t n, uint8_t **copy,
                          kvern_error *err)
{
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    memcpy(*copy, bytes, n);
    return pickle_parse(pickle, *copy, n, err);
}

/* Writes a value as Python would show it, nested ones up to a depth. */
static void show(const struct pickle *pickle, uint32_t index, int depth, struct buffer *out)
{
    static const char *const brackets[] = {[PICKLE_TUPLE] = "()",
                                           [PICKLE_LIST] = "[]",
                                           [PICKLE_DICT] = "{}",
                                           [PICKLE_ORDERED_DICT] = "<>"};
    const struct pickle_value *value = &pickle->values[index];
    const struct pickle_tensor *tensor;

    switch (value->kind) {
    case PICKLE_NONE:
        buffer_add_string(out, "None");
        break;
    case PICKLE_BOOL:
        buffer_add_string(out, value->integer ? "True" : "False");
        break;
    case PICKLE_INT:
        buffer_add_format(out, "%lld", (long long)value->integer);
        break;
    case PICKLE_FLOAT:
        buffer_add_string(out, "float");
        break;
    case PICKLE_STRING:
        buffer_add_format(out, "'%.*s'", (int)value->n, value->text);
        break;
    case PICKLE_NAME:
        buffer_add_format(out, "name%lld", (long long)value->integer);
        break;
    case PICKLE_STORAGE:
        buffer_add_format(out, "storage%u", value->place);
        break;
    case PICKLE_TENSOR:
        tensor = &pickle->tensors[value->place];
        buffer_add_format(out, "tensor+%lld", (long long)tensor->offset);
        for (size_t i = 0; i < tensor->n_dims; i++)
            buffer_add_format(out, " %lld/%lld", (long long)tensor->dims[i],
                              (long long)tensor->strides[i]);
        break;
    default:
        buffer_add_byte(out, brackets[value->kind][0]);
        if (depth == 0)
            buffer_add_string(out, "...");
        for (uint32_t i = value->items.first; depth > 0 && i != PICKLE_NO_ITEM;
             i = pickle->items[i].next) {
            show(pickle, pickle->items[i].value, depth - 1, out);
            buffer_add_byte(out, ',');
        }
        buffer_add_byte(out, brackets[value->kind][1]);
    }
}

static void opcodes_are_run(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *shown;
    } cases[] = {
        {BYTES(P2 "N."), "None"},
        {BYTES("\x80\x05N."), "None"},
        {BYTES(P2 "\x88."), "True"},
        {BYTES(P2 "\x89."), "False"},
        {BYTES(P2 "K\xff."), "255"},
        {BYTES(P2 "M\x01\xff."), "65281"},
        {BYTES(P2 "J\xff\xff\xff\xff."), "-1"},
        {BYTES(P2 "J\0\0\0\x7f."), "2130706432"},
        {BYTES(P2 "\x8a\0."), "0"},
        {BYTES(P2 "\x8a\1\x80."), "-128"},
        {BYTES(P2 "\x8a\5\0\0\0\0\1."), "4294967296"},
        {BYTES(P2 "\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f."), "9223372036854775807"},
        {BYTES(P2 "G\x3f\xf0\0\0\0\0\0\0."), "float"},
        {BYTES(P2 "X\2\0\0\0ab."), "'ab'"},
        {BYTES(P2 "X\0\0\0\0."), "''"},
        {BYTES("\x80\x04\x95\6\0\0\0\0\0\0\0\x8c\2ab\x94."), "'ab'"},
        {BYTES(P2 "\x8d\2\0\0\0\0\0\0\0ab."), "'ab'"},
        {BYTES(P2 ")."), "()"},
        {BYTES(P2 "K\1\x85."), "(1,)"},
        {BYTES(P2 "K\1K\2\x86."), "(1,2,)"},
        {BYTES(P2 "K\1K\2K\3\x87."), "(1,2,3,)"},
        {BYTES(P2 "(K\1K\2K\3K\4t."), "(1,2,3,4,)"},
        {BYTES(P2 "(t."), "()"},
        {BYTES(P2 "]K\1aK\2a."), "[1,2,]"},
        {BYTES(P2 "](K\1K\2e(K\3e(e."), "[1,2,3,]"},
        {BYTES(P2 "}X\1\0\0\0aK\1sK\2Ns."), "{'a',1,2,None,}"},
        {BYTES(P2 "}(X\1\0\0\0aK\1X\1\0\0\0b}uX\1\0\0\0c]s."), "{'a',1,'b',{},'c',[],}"},
        {BYTES(P2 ORDERED "."), "<>"},
        {BYTES("\x80\4\x8c\013collections\x94\x8c\013OrderedDict\x94\x93\x94)R\x94."), "<>"},
        {BYTES(P2 ORDERED "(X\1\0\0\0aK\1u."), "<'a',1,>"},
        {BYTES(P2 ORDERED "}X\x9\0\0\0_metadata" ORDERED "sb."), "<>"},
        {BYTES(P2 ORDERED "}b."), "<>"},
        {BYTES(P2 "K\7q\0h\0\x86."), "(7,7,)"},
        {BYTES(P2 "K\7r\0\0\0\0j\0\0\0\0\x86."), "(7,7,)"},
        {BYTES(P2 "(K\7\x94K\x8\x94h\0h\1t."), "(7,8,7,8,)"},
        {BYTES(P2 "K\7q\0K\x8q\0h\0\x87."), "(7,8,8,)"}, /* put again */
        {BYTES(P2 "]q\0h\0a."), "[[[[...],],],]"},       /* holds itself */
        {BYTES(P2 "}q\0K\1h\0s."), "{1,{1,{1,{...},},},}"},
        {BYTES(P2 "]q\0]q\1h\0ah\1\x87."), "([],[[],],[[],],)"},
        {BYTES(P2 STORAGE "."), "storage0"},
        {BYTES(P2 "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE
                  "K\0K\2K\3\x86K\3K\1\x86\x89" ORDERED "tR."),
         "tensor+0 2/3 3/1"},
        {BYTES(P2 "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\5))\x88N}tR."), "tensor+5"},
        {BYTES(P2 "ctorch._utils\n_rebuild_parameter\nctorch._utils\n_rebuild_tensor_v2\n(" STORAGE
                  "K\0K\6\x85K\1\x85\x89" ORDERED "tR\x88" ORDERED "\x87R."),
         "tensor+0 6/1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer shown = {0};
        struct pickle pickle;
        uint8_t *copy;
        kvern_error err;

        if (parse(&pickle, cases[i].bytes, cases[i].n, &copy, &err) != KVERN_OK)
            fail_msg("case %zu (%s): %s", i, cases[i].shown, err.message);
        show(&pickle, pickle.root, 3, &shown);
        assert_string_equal(shown.data, cases[i].shown);
        buffer_clear(&shown);
        pickle_clear(&pickle);
        pickle_clear(&pickle); /* twice is fine */
        free(copy);
    }
}

static void storages_say_their_type(void **state)
{
    static const struct {
        const char *name;
        enum pickle_type type;
    } cases[] = {
        {"FloatStorage", PICKLE_F32},     {"HalfStorage", PICKLE_F16},
        {"BFloat16Storage", PICKLE_BF16}, {"DoubleStorage", PICKLE_F64},
        {"LongStorage", PICKLE_I64},      {"IntStorage", PICKLE_I32},
        {"ShortStorage", PICKLE_I16},     {"CharStorage", PICKLE_I8},
        {"ByteStorage", PICKLE_U8},       {"BoolStorage", PICKLE_BOOLS},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct pickled_tensor tensor = {
            .name = "t", .storage = cases[i].name, .key = "12", .n_values = 5, .n_dims = 0};
        struct buffer bytes = {0};
        struct pickle pickle;
        kvern_error err;

        put_pickle_begin(&bytes);
        put_pickle_tensor(&bytes, &tensor);
        put_pickle_end(&bytes);
        if (pickle_parse(&pickle, (const uint8_t *)bytes.data, bytes.n_bytes, &err) != KVERN_OK)
            fail_msg("%s: %s", cases[i].name, err.message);
        assert_int_equal(pickle.n_storages, 1);
        assert_int_equal(pickle.storages[0].type, cases[i].type);
        assert_int_equal(pickle.storages[0].n_values, 5);
        assert_true(pickle_is_text(&pickle.values[pickle.storages[0].key], "12"));
        assert_false(pickle_is_text(&pickle.values[pickle.storages[0].key], "1"));
        pickle_clear(&pickle);
        buffer_clear(&bytes);
    }
}

#define TENSOR_CALL "ctorch._utils\n_rebuild_tensor_v2\n("
#define TENSOR_REST "K\6\x85K\1\x85\x89" ORDERED "tR."

static void what_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        kvern_status status;
        const char *says;
    } cases[] = {
        /* what a pickle can do to its reader */
        {BYTES(P2 "cos\nsystem\nX\2\0\0\0ls\x85R."), KVERN_UNSUPPORTED,
         "pickle, byte 2: the name os.system is none that a file of tensors needs; code is never "
         "loaded"},
        {BYTES("\x80\4\x8c\5posix\x8c\6system\x93)R."), KVERN_UNSUPPORTED,
         "byte 17: the name posix.system is none"},
        {BYTES(P2 "c__builtin__\neval\n."), KVERN_UNSUPPORTED, "the name __builtin__.eval is none"},
        {BYTES(P2 "ctorch\nload\n."), KVERN_UNSUPPORTED, "the name torch.load is none"},
        {BYTES(P2 "ctorch._utils\n_rebuild_tensor_v22\n."), KVERN_UNSUPPORTED, "is none"},
        {BYTES(P2 "ctorch\nFloatStorage.__class__\n."), KVERN_UNSUPPORTED, "is none"},
        {BYTES(P2 "ccollections\nOrderedDict.fromkeys\n."), KVERN_UNSUPPORTED, "is none"},
        {BYTES(P2 "ccollections\nOrderedDict\0\n."), KVERN_UNSUPPORTED, "is none"},
        {BYTES(P2 "c\n\n."), KVERN_UNSUPPORTED, "the name . is none"},
        {BYTES(P2 "(i os\nsystem\n."), KVERN_UNSUPPORTED, "byte 3: opcode 0x69 is none"},
        {BYTES(P2 "(cos\nsystem\no."), KVERN_UNSUPPORTED, "the name os.system is none"},
        {BYTES(P2 "\x81."), KVERN_UNSUPPORTED,
         "byte 2: opcode 0x81 is none that a file of tensors"},
        {BYTES(P2 "P0\n."), KVERN_UNSUPPORTED, "opcode 0x50 is none"},
        {BYTES(P2 "\x82\1."), KVERN_UNSUPPORTED, "opcode 0x82 is none"},
        {BYTES(P2 "0."), KVERN_UNSUPPORTED, "opcode 0x30 is none"},
        {BYTES(P2 "\x97."), KVERN_UNSUPPORTED, "opcode 0x97 is none"},
        {BYTES(P2 "\0."), KVERN_UNSUPPORTED, "opcode 0x00 is none"},
        {BYTES(P2 ORDERED "}X\x9\0\0\0__class__K\1sb."), KVERN_UNSUPPORTED,
         "the attribute __class__ of an OrderedDict is none"},
        {BYTES(P2 ORDERED "}(X\x9\0\0\0_metadataNX\x4\0\0\0evilNub."), KVERN_UNSUPPORTED,
         "the attribute evil of an OrderedDict"},
        {BYTES(P2 ORDERED "}K\1Nsb."), KVERN_UNSUPPORTED, "the attribute  of an OrderedDict"},
        {BYTES(P2 "}}b."), KVERN_UNSUPPORTED, "of what is no OrderedDict"},
        {BYTES(P2 ORDERED "K\1b."), KVERN_UNSUPPORTED, "by what is no dict"},
        {BYTES(P2 "K\1)R."), KVERN_FORMAT, "what is no name is called"},
        {BYTES(P2 "ctorch\nFloatStorage\n)R."), KVERN_UNSUPPORTED, "a storage class is called"},
        {BYTES(P2 "ccollections\nOrderedDict\nNR."), KVERN_UNSUPPORTED, "are no tuple of up to 7"},
        {BYTES(P2 "ccollections\nOrderedDict\n]\x85R."), KVERN_UNSUPPORTED,
         "an OrderedDict is made with 1 arguments"},
        {BYTES(P2 "ccollections\nOrderedDict\n(NNNNNNNNtR."), KVERN_UNSUPPORTED, "up to 7"},
        /* storages and tensors */
        {BYTES(P2 "NQ."), KVERN_UNSUPPORTED, "a persistent id is not ('storage', class, key,"},
        {BYTES(P2 ")Q."), KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 "(X\7\0\0\0storageNX\1\0\0\0"
                  "0X\3\0\0\0cpuK\6tQ."),
         KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 "(X\7\0\0\0storaggctorch\nFloatStorage\nX\1\0\0\0"
                  "0X\3\0\0\0cpuK\6tQ."),
         KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 "(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0"
                  "0X\3\0\0\0cpuK\6tQ."),
         KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nK\0X\3\0\0\0cpuK\6tQ."),
         KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                  "0NK\6tQ."),
         KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                  "0X\3\0\0\0cpu\x8a\1\xfftQ."),
         KVERN_UNSUPPORTED, "a persistent id is not"},
        {BYTES(P2 TENSOR_CALL "NK\0" TENSOR_REST), KVERN_UNSUPPORTED,
         "_rebuild_tensor_v2 has other arguments than a plain tensor's"},
        {BYTES(P2 TENSOR_CALL STORAGE "N" TENSOR_REST), KVERN_UNSUPPORTED, "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "\x8a\1\xff" TENSOR_REST), KVERN_UNSUPPORTED,
         "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0K\6\x85K\1\x85\x89tR."), KVERN_UNSUPPORTED,
         "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0K\6\x85)\x89" ORDERED "tR."), KVERN_UNSUPPORTED,
         "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0]]\x89" ORDERED "tR."), KVERN_UNSUPPORTED,
         "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0K\6\x85K\1\x85\x89}K\1NstR."), KVERN_UNSUPPORTED,
         "other arguments"}, /* hooks */
        {BYTES(P2 TENSOR_CALL STORAGE "K\0K\6\x85K\1\x85\x89}K\1tR."), KVERN_UNSUPPORTED,
         "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0K\6\x85K\1\x85K\1}tR."), KVERN_UNSUPPORTED,
         "other arguments"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0(K\1K\1K\1K\1K\6t(K\6K\6K\6K\6K\1t\x89}tR."),
         KVERN_UNSUPPORTED, "a tensor has 5 dimensions; up to 4 are read"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0J\xff\xff\xff\xff\x85K\1\x85\x89}tR."), KVERN_FORMAT,
         "a tensor has a dimension or stride that is no size"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0K\6\x85\x8a\1\x80\x85\x89}tR."), KVERN_FORMAT,
         "a tensor has a dimension or stride that is no size"},
        {BYTES(P2 TENSOR_CALL STORAGE "K\0N\x85K\1\x85\x89}tR."), KVERN_FORMAT, "that is no size"},
        {BYTES(P2 "ctorch._utils\n_rebuild_parameter\nN\x88}\x87R."), KVERN_UNSUPPORTED,
         "_rebuild_parameter has other arguments than a plain parameter's"},
        /* damaged */
        {BYTES(""), KVERN_FORMAT, "byte 0: the pickle ends"},
        {BYTES("N."), KVERN_FORMAT, "byte 0: this is no pickle of protocol 2 or later"},
        {BYTES("\x80\1N."), KVERN_UNSUPPORTED, "pickle protocol 1 is none of 2 to 5"},
        {BYTES("\x80\6N."), KVERN_UNSUPPORTED, "pickle protocol 6 is none of 2 to 5"},
        {BYTES(P2 P2 "N."), KVERN_FORMAT, "byte 2: the protocol is told a second time"},
        {BYTES(P2 "."), KVERN_FORMAT, "the pickle ends with 0 values and 0 marks"},
        {BYTES(P2 "NN."), KVERN_FORMAT, "the pickle ends with 2 values"},
        {BYTES(P2 "N(."), KVERN_FORMAT, "the pickle ends with 1 values and 1 marks"},
        {BYTES(P2 "N.N"), KVERN_FORMAT, "1 bytes follow the pickle's end"},
        {BYTES("\x80\4\x95\3\0\0\0\0\0\0\0N."), KVERN_FORMAT, "a frame of 3 bytes runs past"},
        {BYTES("\x80\4\x95\xff\xff\xff\xff\xff\xff\xff\xffN."), KVERN_FORMAT, "runs past the end"},
        {BYTES(P2 "X\xff\xff\xff\xff."), KVERN_FORMAT, "ends inside an opcode's 4294967295 bytes"},
        {BYTES(P2 "\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), KVERN_FORMAT,
         "ends inside an opcode's 18446744073709551615 bytes"},
        {BYTES(P2 "\x8a\x9\0\0\0\0\0\0\0\0\1."), KVERN_UNSUPPORTED,
         "an integer has 9 bytes; up to 8 are read"},
        {BYTES(P2 "\x86."), KVERN_FORMAT, "byte 2: an opcode takes 2 values off a stack of 0"},
        {BYTES(P2 "N(\x85."), KVERN_FORMAT, "takes 1 values off a stack of 0"}, /* below a mark */
        {BYTES(P2 "K\1(t(K\1e."), KVERN_FORMAT, "items are put into what is no list"},
        {BYTES(P2 "t."), KVERN_FORMAT, "an opcode asks for a mark that is not there"},
        {BYTES(P2 "u."), KVERN_FORMAT, "an opcode asks for a mark that is not there"},
        {BYTES(P2 "(e."), KVERN_FORMAT, "takes 1 values off a stack of 0"},
        {BYTES(P2 "(K\1K\2u."), KVERN_FORMAT, "takes 1 values off a stack of 0"},
        {BYTES(P2 "]K\1K\2s."), KVERN_FORMAT, "items are put into what is no dict"},
        {BYTES(P2 "}K\1a."), KVERN_FORMAT, "items are put into what is no list"},
        {BYTES(P2 "}(K\1u."), KVERN_FORMAT, "a dict is given a key without a value"},
        {BYTES(P2 "})Ns."), KVERN_UNSUPPORTED, "a dict has a key that is no string or integer"},
        {BYTES(P2 "h\0."), KVERN_FORMAT, "memo 0 is asked for, of 0"},
        {BYTES(P2 "q\0."), KVERN_FORMAT, "takes 1 values off a stack of 0"},
        {BYTES(P2 "Nq\1."), KVERN_UNSUPPORTED, "memo 1 comes after 0"},
        {BYTES(P2 "Nr\xff\xff\xff\xff."), KVERN_UNSUPPORTED, "memo 4294967295 comes after 0"},
        {BYTES(P2 "Nq\0j\1\0\0\0."), KVERN_FORMAT, "memo 1 is asked for, of 1"},
        {BYTES(P2 "cos"), KVERN_FORMAT, "byte 2: the pickle ends inside a name"},
        {BYTES(P2 "cos\nsystem"), KVERN_FORMAT, "the pickle ends inside a name"},
        {BYTES("\x80\4NN\x93."), KVERN_FORMAT, "a name is asked for by what is no string"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pickle pickle;
        uint8_t *copy;
        kvern_error err = {0};
        kvern_status status = parse(&pickle, cases[i].bytes, cases[i].n, &copy, &err);

        if (status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %s, \"%s\", wanted \"%s\"", i, kvern_status_name(status),
                     err.message, cases[i].says);
        assert_null(pickle.values);
        free(copy);
    }
}

static void put_many(struct buffer *bytes, const char *what, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buffer_add_string(bytes, what);
}

/* What could be asked for without end is bounded, and said. */
static void bounds(void **state)
{
    static const struct {
        const char *begin;
        const char *repeated;
        size_t n;
        const char *end;
        const char *says; /* NULL: fine */
    } cases[] = {
        {P2, "(", 256, "", "the pickle ends inside an opcode's 1 bytes"},
        {P2, "(", 257, "", "byte 258: there are more than 256 marks at once"},
        {P2 "N", "\x85", 1 << 20, ".", NULL}, /* deep, and nothing recurs */
        {P2 "]", "]", (1 << 20) - 1, ".", "the pickle ends with 1048576 values"},
        {P2 "]", "]", 1 << 20, ".", "the stack has more than 1048576 values"},
        {P2 "]", "]a", (1 << 22) - 1, ".", NULL},
        {P2 "]", "]a", 1 << 22, ".", "there are more than 4194304 values"},
        {P2 "]\x94", "h\1a", 1, ".", "memo 1 is asked for, of 1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buffer bytes = {0};
        struct pickle pickle;
        kvern_error err = {0};

        buffer_add_string(&bytes, cases[i].begin);
        put_many(&bytes, cases[i].repeated, cases[i].n);
        buffer_add_string(&bytes, cases[i].end);
        kvern_status status =
            pickle_parse(&pickle, (const uint8_t *)bytes.data, bytes.n_bytes, &err);
        if (cases[i].says ? !strstr(err.message, cases[i].says) : status != KVERN_OK)
            fail_msg("case %zu: \"%s\", wanted \"%s\"", i, err.message,
                     cases[i].says ? cases[i].says : "fine");
        pickle_clear(&pickle);
        buffer_clear(&bytes);
    }

    struct pickle pickle;
    kvern_error err;
    static const uint8_t byte = 0x80;
    assert_int_equal(pickle_parse(&pickle, &byte, PICKLE_MAX_BYTES + 1, &err), KVERN_LIMIT);
    assert_string_equal(err.message, "a pickle of 67108865 bytes is over the limit of 67108864");
}

/* One value on the stack, in the memo and in a list, as often as bytes allow. */
static void items_are_bounded(void **state)
{
    enum { N_TIMES = 1 << 17, N_LISTS = 33 };
    struct buffer bytes = {0};
    struct pickle pickle;
    kvern_error err = {0};

    (void)state;
    buffer_add(&bytes, BYTES(P2 "Nq\0]"));
    for (int i = 0; i < N_LISTS; i++) {
        buffer_add_byte(&bytes, '(');
        for (int j = 0; j < N_TIMES; j++)
            buffer_add(&bytes, "h", 2);
        buffer_add_byte(&bytes, 'e');
    }
    buffer_add_byte(&bytes, '.');
    assert_int_equal(pickle_parse(&pickle, (const uint8_t *)bytes.data, bytes.n_bytes, &err),
                     KVERN_LIMIT);
    assert_non_null(strstr(err.message, "containers have more than 4194304 items"));
    buffer_clear(&bytes);
}

/* A whole state dict, cut everywhere, and with no memory at each allocation. */
static void cuts_and_no_memory(void **state)
{
    const struct pickled_tensor tensor = {.name = "a",
                                          .storage = "HalfStorage",
                                          .key = "0",
                                          .n_values = 6,
                                          .n_dims = 2,
                                          .dims = {2, 3},
                                          .strides = {3, 1}};
    struct buffer bytes = {0};
    struct pickle pickle;
    uint8_t *copy;
    kvern_error err;
    bool has_failed = true;

    (void)state;
    put_pickle_begin(&bytes);
    put_pickle_tensor(&bytes, &tensor);
    put_pickle_tensor(&bytes, &tensor);
    put_pickle_end(&bytes);
    for (size_t n = 0; n < bytes.n_bytes; n++) {
        if (parse(&pickle, bytes.data, n, &copy, &err) != KVERN_FORMAT)
            fail_msg("%zu bytes of %zu are taken for a pickle", n, bytes.n_bytes);
        free(copy);
    }
    for (int n = 0; has_failed; n++) {
        memory_fail_after(n);
        kvern_status status =
            pickle_parse(&pickle, (const uint8_t *)bytes.data, bytes.n_bytes, &err);
        has_failed = memory_fail_after(-1);
        assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
        pickle_clear(&pickle);
    }
    buffer_clear(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opcodes_are_run),   cmocka_unit_test(storages_say_their_type),
        cmocka_unit_test(what_is_refused),   cmocka_unit_test(bounds),
        cmocka_unit_test(items_are_bounded), cmocka_unit_test(cuts_and_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
