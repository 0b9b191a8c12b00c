/* SPDX-License-Identifier: Apache-2.0
 *
 * Which files git sees as changed since a revision, by asking the git command.
 */
#ifndef KVERN_CLI_GIT_CHANGES_H
#define KVERN_CLI_GIT_CHANGES_H

#include "base/map.h"
#include "kvern.h"

/* Puts the files below `directory` that are not as they were at `revision`, new and untracked ones
 * too, deleted ones not, as paths from the directory ("src/a.c" -> 1) into `changes`, which is
 * cleared by the caller. KVERN_INVALID: git does not know the revision, or the directory is in no
 * repository (git says more on stderr); KVERN_NOT_FOUND: there is no git. */
kvern_status git_changes_read(struct map *changes, const char *directory, const char *revision,
                              kvern_error *err);

#endif
