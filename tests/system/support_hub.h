/* SPDX-License-Identifier: Apache-2.0
 *
 * A hub on loopback for the tests of pull: a forked child that answers the list of a repository's
 * files and the files themselves, with the faults a test asks for. The parent reads what was asked
 * of it from shared memory.
 */
#ifndef KVERN_TESTS_SUPPORT_HUB_H
#define KVERN_TESTS_SUPPORT_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum hub_fault {
    HUB_FINE,
    HUB_NOT_FOUND,    /* 404 for the list */
    HUB_FORBIDDEN,    /* 401 for the list */
    HUB_NOT_JSON,     /* a page instead of the list */
    HUB_WRONG_LIST,   /* JSON of another kind */
    HUB_ODD_NAMES,    /* names with '/' and ".." in the list, served if asked for */
    HUB_WRONG_SIZE,   /* the list tells one byte more */
    HUB_WRONG_HASH,   /* the list tells another sha256 */
    HUB_DROPS,        /* the first answer for the weights ends half way */
    HUB_REDIRECTS,    /* files come from localhost instead */
    HUB_IGNORES_RANGE /* gives whole files whatever is asked */
};

/* What the child saw; shared with it. */
struct hub_record {
    int n_requests;
    int n_files;            /* answers that carried a file */
    int64_t last_offset;    /* of the last Range */
    bool has_token;         /* a request of this address came with the token */
    bool has_foreign_token; /* one of localhost did */
    bool was_asked_oddly;   /* for a name with '/' or ".." */
};

struct test_hub {
    pid_t child;
    int port;
    struct hub_record *record;
};

/* Serves the files of `directory` as the repository "owner/tiny". */
void test_hub_start(struct test_hub *hub, const char *directory, enum hub_fault fault);
void test_hub_stop(struct test_hub *hub);

#endif
