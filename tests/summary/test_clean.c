/* SPDX-License-Identifier: Apache-2.0
 *
 * What models write, and the summary that is left of it. The prompt and the source are those of the
 * tests' tables unless a case is about them.
 */
#include "summary/clean.h"
#include "summary/clean_phrases.h"
#include "test.h"

#include "base/memory.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

static const char prompt[] = "You summarize source code.\n"
                             "Summarize the following code in one or two sentences.";

static const char source[] = "# adds numbers\n"
                             "def add(a, b):\n"
                             "    \"\"\"\n"
                             "    Return the sum of two numbers.\n"
                             "    \"\"\"\n"
                             "    total = a + b\n"
                             "    return total\n";

struct answer {
    const char *text;
    const char *summary; /* NULL: none */
    const char *reason;
};

static void check(const struct answer *answers, size_t n, bool is_finished)
{
    struct clean_options options = {.prompt = prompt,
                                    .source = source,
                                    .n_source = sizeof source - 1,
                                    .is_finished = is_finished};

    for (size_t i = 0; i < n; i++) {
        const struct answer *answer = &answers[i];
        size_t n_bytes = strlen(answer->text);
        char *exact = malloc(n_bytes + 1); /* a read past the end is seen under ASan */
        struct cleaned found;
        kvern_error err;

        assert_non_null(exact);
        memcpy(exact, answer->text, n_bytes);
        assert_int_equal(clean_summary(exact, n_bytes, &options, &found, &err), KVERN_OK);
        if (strcmp(found.summary ? found.summary : "(none)",
                   answer->summary ? answer->summary : "(none)") != 0 ||
            strcmp(found.reason ? found.reason : "", answer->reason ? answer->reason : "") != 0)
            fail_msg("%s\n  gives: %s (%s)\n  not:   %s (%s)", answer->text,
                     found.summary ? found.summary : "none", found.reason ? found.reason : "",
                     answer->summary ? answer->summary : "none",
                     answer->reason ? answer->reason : "");
        assert_int_equal(found.is_half, found.summary && found.reason);
        clean_clear(&found);
        free(exact);
    }
}

static void good_answers_stay(void **state)
{
    static const struct answer answers[] = {
        {"This code adds two numbers.", "This code adds two numbers.", NULL},
        {"Parses foo.c and calls bar(a, b). It returns x->y.",
         "Parses foo.c and calls bar(a, b). It returns x->y.", NULL},
        {"Reads files, e.g. PNG images, i.e. binary data. Writes them.",
         "Reads files, e.g. PNG images, i.e. binary data. Writes them.", NULL},
        {"Return the sum of two numbers.", "Return the sum of two numbers.", NULL},
        {"Uses C. S. Lewis' method (see fig. 3) to sort.",
         "Uses C. S. Lewis' method (see fig. 3) to sort.", NULL},
        {"Is it fast? Yes, it uses AVX-512!", "Is it fast? Yes, it uses AVX-512!", NULL},
        {"Takes *args and **kwargs and passes them on.",
         "Takes *args and **kwargs and passes them on.", NULL},
        {"Defines __init__ and a [Python] class.", "Defines __init__ and a [Python] class.", NULL},
        {"Version 3.5 of the parser: it reads JSON.", "Version 3.5 of the parser: it reads JSON.",
         NULL},
        {"f\xc3\xbcgt zwei Zahlen zusammen.", "f\xc3\xbcgt zwei Zahlen zusammen.", NULL},
        {"\u8fd4\u56de\u4e24\u4e2a\u6570\u7684\u548c\u3002\u7b2c\u4e8c\u3002\u7b2c\u4e09\u3002",
         "\u8fd4\u56de\u4e24\u4e2a\u6570\u7684\u548c\u3002 \u7b2c\u4e8c\u3002", NULL},
        {"The class provides a summary of the output: it prints totals.",
         "The class provides a summary of the output: it prints totals.", NULL},
        {"This is a sentence splitter for the summary module.",
         "This is a sentence splitter for the summary module.", NULL},
        {"This function returns the length of an object by len() or (hint).",
         "This function returns the length of an object by len() or (hint).", NULL},
        {"Here the answer is computed twice.", "Here the answer is computed twice.", NULL},
    };

    (void)state;
    check(answers, COUNT(answers), true);
    check(answers, COUNT(answers), false);
}

static void wrapping_goes(void **state)
{
    static const struct answer answers[] = {
        {"  \n\nAdds two numbers.\n\n", "Adds two numbers.", NULL},
        {"Summary: adds two numbers.", "Adds two numbers.", NULL},
        {"**Summary:** Adds two numbers.", "Adds two numbers.", NULL},
        {"### Summary\n\nAdds two numbers.", "Adds two numbers.", NULL},
        {"Summary\nAdds two numbers.", "Adds two numbers.", NULL},
        {"Here is a summary of the code:\n\nThis code adds numbers.", "This code adds numbers.",
         NULL},
        {"Here's a one-sentence summary of the `add` function: It adds numbers.",
         "It adds numbers.", NULL},
        {"Sure! Here is a brief summary:\n\n\"Adds two numbers.\"", "Adds two numbers.", NULL},
        {"Certainly! Here are two sentences: Adds a. Adds b.", "Adds a. Adds b.", NULL},
        {"Of course, here is the explanation: adds numbers.", "Adds numbers.", NULL},
        {"Answer: printf_all prints all.", "printf_all prints all.", NULL},
        {"A: The code adds two numbers.", "The code adds two numbers.", NULL},
        {"Assistant: Adds two numbers.<|im_end|>", "Adds two numbers.", NULL},
        {"<s>Adds two numbers.</s><pad><pad>", "Adds two numbers.", NULL},
        {"<think>\nThe user wants a summary.\n</think>\n\nAdds two numbers.", "Adds two numbers.",
         NULL},
        {"In summary, the module adds numbers.", "The module adds numbers.", NULL},
        {"TL;DR: Adds two numbers.", "Adds two numbers.", NULL},
        {"> Adds two numbers.", "Adds two numbers.", NULL},
        {"- Adds two numbers.", "Adds two numbers.", NULL},
        {"1. Adds a.\n2. Adds b.\n3. Adds c.", "Adds a. Adds b.", NULL},
        {"* Adds a\n* Adds b.\n", "Adds a. Adds b.", NULL},
        {"This module does:\n\n- parse input;\n- write output.\n",
         "This module does: parse input; write output.", NULL},
        {"The class has two parts:\n1. A reader\n2. A writer\n\nIt is small.",
         "The class has two parts: A reader; A writer. It is small.", NULL},
        {"The `add` function returns **the sum**.", "The add function returns the sum.", NULL},
        {"Adds two numbers.\n\nI hope this helps! Let me know if you have questions.",
         "Adds two numbers.", NULL},
        {"Adds two numbers.\n```python\ndef add(a, b):\n    return a + b\n```\n",
         "Adds two numbers.", NULL},
        {"```python\ndef add(a, b):\n    return a + b\n```\nThis code adds two numbers.",
         "This code adds two numbers.", NULL},
        {"```\nAdds two numbers.\n```", "Adds two numbers.", NULL},
        {"```Adds two numbers.```", "Adds two numbers.", NULL},
        {"# Adds two numbers.", "Adds two numbers.", NULL},
        {"def add(a, b):\n    total = a + b\n\nAdds two numbers.", "Adds two numbers.", NULL},
        {"# adds numbers\nreturn total\nAdds two numbers.", "Adds two numbers.", NULL},
        {"Summarize the following code in one or two sentences.\nAdds two numbers.",
         "Adds two numbers.", NULL},
        {"You summarize source code. Adds two numbers.", "Adds two numbers.", NULL},
        {"The code adds\ntwo numbers\nand returns them.",
         "The code adds two numbers and returns them.", NULL},
        {"A title\n\nAdds two numbers.", "A title. Adds two numbers.", NULL},
        {"One. Two. Three. Four.", "One. Two.", NULL},
        {"Return the sum of two numbers .", "Return the sum of two numbers.", NULL},
        {"Add a , b and c .", "Add a, b and c.", NULL},
    };

    (void)state;
    check(answers, COUNT(answers), true);
    check(answers, COUNT(answers), false);
}

static void repetition_goes(void **state)
{
    static const struct answer answers[] = {
        {"Adds two numbers. Adds two numbers. Adds two numbers.", "Adds two numbers.", NULL},
        {"Adds two numbers.\nAdds two numbers.\nIt is fast.", "Adds two numbers. It is fast.",
         NULL},
        {"Adds two numbers. adds two numbers! ADDS TWO NUMBERS.", "Adds two numbers.", NULL},
        {"The code reads a file, reads a file, reads a file, reads a file.",
         "The code reads a file.", NULL},
        {"It is very very very very fast.", "It is very fast.", NULL},
        {"The list holds a, b, a, b, a, b, and c.", "The list holds a, b, and c.", NULL},
        {"It is very, very fast.", "It is very, very fast.", NULL},
    };
    static const struct answer cut[] = {
        {"Adds numbers. The function the function the function the function the", "Adds numbers.",
         NULL},
        {"The list of the list of the list of the list of the", "The list of...",
         "the answer ended in the middle of a sentence"},
    };

    (void)state;
    check(answers, COUNT(answers), true);
    check(cut, COUNT(cut), false);
}

static void half_sentences(void **state)
{
    static const struct answer cut[] = {
        {"Adds two numbers. It also checks that the", "Adds two numbers.", NULL},
        {"Adds two numbers and checks that the", "Adds two numbers and checks that the...",
         "the answer ended in the middle of a sentence"},
        {"Adds two numbers, (", "Adds two numbers...",
         "the answer ended in the middle of a sentence"},
        {"The module has:\n- a reader\n- a writer\n- a chec", "The module has: a reader; a writer.",
         NULL},
        {"The module has:\n- a rea", "The module has: a rea...",
         "the answer ended in the middle of a sentence"},
        {"Adds two num\xc3", "Adds two num...", "the answer ended in the middle of a sentence"},
    };
    static const struct answer finished[] = {
        {"Adds two numbers", "Adds two numbers.", NULL},
        {"Adds two numbers. It is fast", "Adds two numbers. It is fast.", NULL},
        {"add", "add.", NULL},
        {"The module does the following:", "The module does the following.", NULL},
    };

    (void)state;
    check(cut, COUNT(cut), false);
    check(finished, COUNT(finished), true);
}

/* What SmolLM2 left when its tokens were used up: a whole sentence stands before a border. */
static void half_sentences_end_at_a_border(void **state)
{
    static const char middle[] = "the answer ended in the middle of a sentence";
    static const struct answer answers[] = {
        {"This folder contains Python modules designed to support email functionality, including a "
         "custom mailpack module, a custom mailutils",
         "This folder contains Python modules designed to support email functionality, including a "
         "custom mailpack module.",
         NULL},
        {"This folder contains Python modules designed to support email functionality, including",
         "This folder contains Python modules designed to support email functionality.", NULL},
        {"It uses a list and the `str.encode()` method to encode it, and then",
         "It uses a list and the str.encode() method to encode it.", NULL},
        {"This code defines a new type of object called a Feature that allows for multiple",
         "This code defines a new type of object called a Feature.", NULL},
        {"This code returns a dictionary with these keys (nchannels, framerate, nframes), and (see",
         "This code returns a dictionary with these keys (nchannels, framerate, nframes).", NULL},
        {"This code opens a file with the mode 'rb', 'wb', 'a",
         "This code opens a file with the mode 'rb', 'wb'.", NULL},
        {"Reads each line of the file using open(); it also",
         "Reads each line of the file using open().", NULL},
        {"This code defines a Python class named StringIO which",
         "This code defines a Python class named StringIO.", NULL},
        {"The parser of this package reads a file, which is",
         "The parser of this package reads a file.", NULL},
        {"This code reads the users' settings from a file, parses",
         "This code reads the users' settings from a file.", NULL},
        {"This code defines a function main() that takes a string and returns the",
         "This code defines a function main() that takes a string.", NULL},
        {"This code creates a new event loop using asyncio", "This code creates a new event loop.",
         NULL},
        /* the last border is none: what stands before it wants more */
        {"This code returns the names of all files, if there are any, of",
         "This code returns the names of all files.", NULL},
        {"This code defines a wrapper that reads and writes a file",
         "This code defines a wrapper that reads and writes a file...", middle},
        {"This code reads the configuration of a server and, if",
         "This code reads the configuration of a server and, if...", middle},
        {"This code checks that, when the file is there, it",
         "This code checks that, when the file is there, it...", middle},
        {"The value, which is computed by the function f, is",
         "The value, which is computed by the function f, is...", middle},
        {"When the file of the user is there, it", "When the file of the user is there, it...",
         middle},
        {"This code creates for every user a small, fast",
         "This code creates for every user a small, fast...", middle},
        {"This code calls f(a, b, c, d, e, f, g", "This code calls f(a, b, c, d, e, f, g...",
         middle},
        {"This code says \"hello to the user, and", "This code says \"hello to the user, and...",
         middle},
        {"This code waits for more than a thousand returns of", /* "and" is a word */
         "This code waits for more than a thousand returns of...", middle},
        {"This code adds numbers, and", "This code adds numbers, and...", middle},
        {"This code defines a new MIME_UNSPECED_EXTENSION_TYPE_NON_MEMBER_CONTENT_TYPE_SUPER_"
         "PARTITURE_FLAG as the base class for MIME_UNSPECED_EXTENSION_TYPE_NON_MEMBER\\_",
         "This code defines a new MIME_UNSPECED_EXTENSION_TYPE_NON_MEMBER_CONTENT_TYPE_SUPER_"
         "PARTITURE_FLAG as the base class for MIME_UNSPECED_EXTENSION_TYPE_NON_MEMBER\\_...",
         middle},
    };

    (void)state;
    check(answers, COUNT(answers), false);
}

static void echoes_of_the_path_go(void **state)
{
    static const struct answer answers[] = {
        {"This code of /usr/lib/python3.11/mailutils/email.backends.py does the following: The "
         "mailutils package contains a variety of functions that can help you send emails.",
         "The mailutils package contains a variety of functions that can help you send emails.",
         NULL},
        {"This code of `src/a.c` returns the sum.", "This code returns the sum.", NULL},
        {"This code in setup.py, which is short, returns the sum.",
         "This code, which is short, returns the sum.", NULL},
        {"This file /usr/lib/a.py is for tests.", "This file is for tests.", NULL},
        {"This folder src/ holds sources.", "This folder holds sources.", NULL},
        {"This code does the following: it adds numbers.", "It adds numbers.", NULL},
        {"This code does the following:\n- parse input;\n- write output.\n",
         "This code does the following: parse input; write output.", NULL},
        {"This code of Python returns the sum.", "This code of Python returns the sum.", NULL},
        {"This function os.path.join joins paths.", "This function os.path.join joins paths.",
         NULL},
        {"This code is of src/a.c.", "This code is of src/a.c.", NULL},
        {"This file is src/a.c", "This file is src/a.c.", NULL},
    };

    (void)state;
    check(answers, COUNT(answers), true);
}

static void foreign_bytes_go(void **state)
{
    static const struct answer answers[] = {
        {"Adds\x1b[31m two\x07 numbers.", "Adds[31m two numbers.", NULL},
        {"Adds\xff two\xc3 numbers.", "Adds two numbers.", NULL},
        {"Adds\ttwo\xc2\xa0numbers.\r\n", "Adds two numbers.", NULL},
        {"\xef\xbb\xbf"
         "Adds\xe2\x80\x8b two \xe2\x80\xaenumbers.",
         "Adds two numbers.", NULL},
        {"\xef\xbf\xbd"
         "Adds two numbers.",
         "Adds two numbers.", NULL},
    };

    (void)state;
    check(answers, COUNT(answers), true);
}

static void useless_answers_have_reasons(void **state)
{
    static const struct answer answers[] = {
        {"", NULL, "the answer is empty"},
        {" \n\t\n", NULL, "the answer is empty"},
        {"<|im_end|>", NULL, "the answer is empty"},
        {"...", NULL, "the answer says nothing"},
        {"----\n!!! ???", NULL, "the answer says nothing"},
        {"12345", NULL, "the answer says nothing"},
        {"Sure!", NULL, "the answer says nothing"},
        {"Yes.", NULL, "the answer says nothing"},
        {"N/A", NULL, "the answer says nothing"},
        {"Summary:", NULL, "the answer says nothing"},
        {"Here is a summary of the code:", NULL, "the answer says nothing"},
        {"Here is the summary.", NULL, "the answer says nothing"},
        {"I hope this helps!", NULL, "the answer says nothing"},
        {"I cannot summarize this code.", NULL, "the model refused or asked back"},
        {"I'm sorry, but I can't help with that. Please provide the code.", NULL,
         "the model refused or asked back"},
        {"As an AI language model, I do not see code.", NULL, "the model refused or asked back"},
        {"Sure! Please provide the code you want summarized.", NULL,
         "the model refused or asked back"},
        {prompt, NULL, "the answer only repeats the prompt"},
        {"Summarize the following code:", NULL, "the answer only repeats the prompt"},
        {"def add(a, b):\n    return a + b", NULL, "the answer is only code"},
        {"```\nint main(void) {\n  return 0;\n}\n```", NULL, "the answer is only code"},
        {"```python\ndef f(cls, *args):\n    return cls(*args)\n\n```", NULL,
         "the answer is only code"},
        {"    total = a + b\n    return total\n", NULL, "the answer is only code"},
        {"#include <stdio.h>\n#include <stdlib.h>", NULL, "the answer is only code"},
        {"<think>\nLet me see what this code does. It", NULL,
         "the answer ended inside the model's thoughts"},
    };

    (void)state;
    check(answers, COUNT(answers), true);
    check(answers, COUNT(answers), false);
}

static void limits(void **state)
{
    static const struct {
        size_t max_sentences, max_bytes;
        const char *text, *summary;
    } cases[] = {
        {1, 0, "Adds a. Adds b.", "Adds a."},
        {3, 0, "Adds a. Adds b. Adds c. Adds d.", "Adds a. Adds b. Adds c."},
        {2, 20, "Adds a to b. Then adds c to d.", "Adds a to b."},
        {2, 26, "Adds a to b, c, d, e and more to f.", "Adds a to b, c, d."},
        {2, 1, "Adds a to b and c.", "Adds a to b..."},
        {2, 20,
         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4",
         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4..."},
        {2, 20, "Adds a. A sentence that is too long. Adds b.", "Adds a. Adds b."},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct clean_options options = {.is_finished = true,
                                        .max_sentences = cases[i].max_sentences,
                                        .max_bytes = cases[i].max_bytes};
        struct cleaned found;

        assert_int_equal(
            clean_summary(cases[i].text, strlen(cases[i].text), &options, &found, NULL), KVERN_OK);
        assert_string_equal(found.summary ? found.summary : "(none)", cases[i].summary);
        clean_clear(&found);
    }
}

/* However an answer is cut, what is left is one line of UTF-8 within the limit, and what was
 * cleaned once stays as it is. */
static void cut_at_every_byte(void **state)
{
    static const char text[] = "Sure! Here is a summary:\n\n**The m\xc3\xb6"
                               "dule** has:\n- a `reader`, e.g. of C;\n- a writer "
                               "(fast).\n```c\nint x;\n```\nIt is small. It is small. "
                               "<|im_end|>\n<think>no</think> Fin\xe3\x80\x82";

    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        struct clean_options options = {.prompt = prompt, .is_finished = n % 2 == 0};
        struct cleaned first;
        struct cleaned again;

        assert_int_equal(clean_summary(text, n, &options, &first, NULL), KVERN_OK);
        if (!first.summary) {
            assert_non_null(first.reason);
            continue;
        }
        assert_true(strlen(first.summary) <= CLEAN_MAX_BYTES);
        assert_true(utf8_is_valid(first.summary, strlen(first.summary)));
        assert_null(strpbrk(first.summary, "\n`"));
        assert_int_equal(
            clean_summary(first.summary, strlen(first.summary), &options, &again, NULL), KVERN_OK);
        if (!again.summary || strcmp(again.summary, first.summary) != 0)
            fail_msg("%s becomes %s", first.summary, again.summary ? again.summary : "nothing");
        clean_clear(&first);
        clean_clear(&again);
    }
}

static void no_memory(void **state)
{
    static const char text[] = "Here is a summary: `adds`.\n- a\n- b";
    struct clean_options options = {.prompt = prompt};
    bool has_failed = true;

    (void)state;
    for (int64_t n = 0; has_failed; n++) {
        struct cleaned found;
        kvern_status status;

        memory_fail_after(n);
        status = clean_summary(text, sizeof text - 1, &options, &found, NULL);
        has_failed = memory_fail_after(-1);
        assert_int_equal(status, has_failed ? KVERN_MEMORY : KVERN_OK);
        clean_clear(&found);
        clean_clear(&found);
    }
}

/* The engine takes 1 to 64 of them, none empty; none may end a plain summary. */
static void stop_strings(void **state)
{
    size_t n;
    const char *const *strings = clean_stop_strings(&n);

    (void)state;
    assert_in_range(n, 1, 64);
    for (size_t i = 0; i < n; i++) {
        assert_true(strlen(strings[i]) > 2);
        assert_true(strings[i][0] == '\n' || strings[i][0] == '<');
        assert_true(strpbrk(strings[i] + 2, "|:# eE") != NULL);
    }
}

static void lines_of_code(void **state)
{
    static const struct {
        const char *text;
        bool is_code;
    } cases[] = {
        {"int main(void) {", true},
        {"}", true},
        {"x = foo(a, b)", true},
        {"import os", true},
        {"from x import y", true},
        {"@property", true},
        {"// a comment", true},
        {"def f(self):", true},
        {"return a[i] + b[i]", true},
        {"Adds two numbers.", false},
        {"import of data from files.", false},
        {"return the sum of x", false},
        {"Calls foo(a) and bar(b).", false},
        {"The R&D module (fast)", false},
        {"a", false},
        {"", false},
        {"from the list", true}, /* the price of knowing imports: prose begins with a capital */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (clean_is_code(cases[i].text, strlen(cases[i].text)) != cases[i].is_code)
            fail_msg("\"%s\" is %scode", cases[i].text, cases[i].is_code ? "not taken for " : "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_answers_stay),
        cmocka_unit_test(wrapping_goes),
        cmocka_unit_test(repetition_goes),
        cmocka_unit_test(half_sentences),
        cmocka_unit_test(half_sentences_end_at_a_border),
        cmocka_unit_test(echoes_of_the_path_go),
        cmocka_unit_test(foreign_bytes_go),
        cmocka_unit_test(useless_answers_have_reasons),
        cmocka_unit_test(limits),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(stop_strings),
        cmocka_unit_test(lines_of_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
