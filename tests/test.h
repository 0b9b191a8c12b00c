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

#undef fail /* base/error.h has a function of this name; fail_msg() does what it did */

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

#endif
