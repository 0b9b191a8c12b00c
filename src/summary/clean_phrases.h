/* SPDX-License-Identifier: Apache-2.0
 *
 * The phrases that models put around an answer, in tables: add a row when a model has a new one.
 * Case makes no difference. Texts are [n_bytes], without space at the ends.
 */
#ifndef KVERN_SUMMARY_CLEAN_PHRASES_H
#define KVERN_SUMMARY_CLEAN_PHRASES_H

#include <stdbool.h>
#include <stddef.h>

/* The bytes of "Sure! Here is a summary of the code: " and the like at the beginning; all of them
 * where there is nothing else; 0: there is none. */
size_t clean_lead_in(const char *text, size_t n_bytes);
/* "This code of src/a.c returns x.": the bytes of " of src/a.c", at text[*first]: the question said
 * what it was about; 0: there is none. */
size_t clean_path_echo(const char *text, size_t n_bytes, size_t *first);
/* A sentence that refuses or asks back: "I cannot ...". */
bool clean_is_refusal(const char *text, size_t n_bytes);
/* A sentence that says nothing about the code: "I hope this helps!", "Sure." */
bool clean_is_filler(const char *text, size_t n_bytes);
/* "Calls foo(a) and bar(b).": a capital letter, and three words with an end or seven without. */
bool clean_is_sentence(const char *text, size_t n_bytes);
/* Does it read as a line of code, not of prose? */
bool clean_is_code(const char *text, size_t n_bytes);
/* Are all the letters and digits of `text`, four words or more, somewhere in `where` in a row? */
bool clean_is_echo(const char *text, size_t n_bytes, const char *where);
/* Equal but for case, space and punctuation, and not without letters. */
bool clean_is_same(const char *a, size_t n_a, const char *b, size_t n_b);

#endif
