/* SPDX-License-Identifier: Apache-2.0
 *
 * What every test includes: CMocka with the headers it wants, and the count of a table.
 */
#ifndef KVERN_TESTS_TEST_H
#define KVERN_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* base/error.h has a function named fail, so cmocka's macro of that name goes, and fail_msg, which
 * uses it, is made anew. */
#undef fail
#undef fail_msg
#define fail_msg(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

#endif
