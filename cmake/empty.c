/* SPDX-License-Identifier: Apache-2.0: a library made of object libraries needs one source. */
typedef int kvern_empty;
