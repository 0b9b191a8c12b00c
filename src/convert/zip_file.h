/* SPDX-License-Identifier: Apache-2.0
 *
 * The zip container as torch.save and Python's zipfile write it: entries stored as they are, so
 * that each is a span of the mapped file, with or without ZIP64. After zip_file_parse() every entry
 * lies inside the file, overlaps no other and has a name of its own. Nothing is unpacked, and
 * checksums are not compared.
 */
#ifndef KVERN_CONVERT_ZIP_FILE_H
#define KVERN_CONVERT_ZIP_FILE_H

#include "base/map.h"
#include "kvern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zip_entry {
    const char *name; /* [name_bytes], in the file and without a NUL */
    size_t name_bytes;
    const uint8_t *data; /* [n_bytes], in the file, any alignment */
    size_t n_bytes;
};

struct zip_file {
    struct zip_entry *entries; /* [n_entries], owned; in the order of the central directory */
    size_t n_entries;
    struct map by_name; /* name -> index into entries */
};

/* Whether the file begins as a zip does that has an entry. */
bool zip_file_is_zip(const uint8_t *data, size_t n_bytes);

/* Entries point into `data`, which must outlive them. A compressed or encrypted entry is
 * KVERN_UNSUPPORTED. On failure *out is zeroed. */
kvern_status zip_file_parse(struct zip_file *out, const uint8_t *data, size_t n_bytes,
                            kvern_error *err);
/* NULL if there is none of this name. */
const struct zip_entry *zip_file_find(const struct zip_file *zip, const char *name,
                                      size_t name_bytes);
/* Fine on a zeroed one. */
void zip_file_clear(struct zip_file *zip);

#endif
