/* SPDX-License-Identifier: Apache-2.0
 *
 * The table behind language.h: one row a language. Extensions are unique: the first row wins.
 */
#ifndef KVERN_SUMMARY_LANGUAGE_TABLE_H
#define KVERN_SUMMARY_LANGUAGE_TABLE_H

#include "summary/language.h"

extern const struct language language_table[]; /* [n_languages] */
extern const size_t n_languages;

#endif
