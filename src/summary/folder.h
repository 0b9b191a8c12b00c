/* SPDX-License-Identifier: Apache-2.0
 *
 * One open folder of a walk: its descriptor and the names in it, sorted by their bytes. Knows
 * nothing of what the names stand for.
 */
#ifndef KVERN_SUMMARY_FOLDER_H
#define KVERN_SUMMARY_FOLDER_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { FOLDER_MAX_NAME_BYTES = 64 << 20 };

struct folder {
    int fd; /* owned; -1: not open */
    dev_t device;
    ino_t inode;
    struct buffer bytes; /* all names, each with its NUL */
    const char **names;  /* [n_names], sorted */
    size_t n_names;
};

enum folder_result { FOLDER_OK, FOLDER_UNREADABLE /* errno says why */, FOLDER_TOO_MANY };

/* Opens `name` in the folder `parent` (AT_FDCWD: as any path), which must not be a link unless
 * `follows`. What it gives must be closed when it is FOLDER_OK. */
enum folder_result folder_open(struct folder *folder, int parent, const char *name, bool follows);
/* Reads the names: . and .. are left out. */
enum folder_result folder_read(struct folder *folder);
bool folder_has(const struct folder *folder, const char *name);
/* Fine on a closed one. */
void folder_close(struct folder *folder);

#endif
