/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a sentence that was cut off can end: a model that comes to its last token in the middle of
 * a list or of a relative clause has mostly said a whole sentence before it. Pure; English only,
 * and careful: what is not surely a sentence is none.
 */
#ifndef KVERN_SUMMARY_CLEAN_HALF_H
#define KVERN_SUMMARY_CLEAN_HALF_H

#include <stddef.h>

/* How many of the bytes of a sentence without an end are a whole one but for the full stop: all
 * before the last ',' or ';' or word such as "which" where it can stop; 0: it can nowhere. */
size_t clean_whole_bytes(const char *text, size_t n_bytes);

#endif
