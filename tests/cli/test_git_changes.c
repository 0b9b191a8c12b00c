/* SPDX-License-Identifier: Apache-2.0
 *
 * What git says changed, in a repository that is made here: which files count, by which names, seen
 * from where, and what is no revision. Without git there is nothing to test.
 */
#include "test.h"

#include "cli/git_changes.h"

#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/kvern-test-git-XXXXXX";

static void run_shell(const char *script)
{
    struct buffer command = {0};

    buffer_add_format(&command,
                      "exec >/dev/null 2>&1; set -e; cd %s; export GIT_CONFIG_GLOBAL=/dev/null; "
                      "export GIT_CONFIG_SYSTEM=/dev/null; "
                      "git() { command git -c user.name=a -c user.email=a@b \"$@\"; }; %s",
                      folder, script);
    assert_false(command.has_failed);
    if (system(command.data) != 0)
        fail_msg("it failed: %s", script);
    buffer_clear(&command);
}

static bool has_git(void)
{
    return system("git --version >/dev/null 2>&1") == 0;
}

static int make_repository(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    if (has_git())
        run_shell("mkdir repo; cd repo; git init -q; mkdir inner; "
                  "for name in same.c changed.c gone.c moved.c inner/in.c; do "
                  "seq 30 >$name; echo $name >>$name; done; echo 'left*' >.gitignore; "
                  "git add .; git commit -qm one; git worktree add -q ../tree; "
                  "echo more >>changed.c; echo more >>inner/in.c; git rm -q gone.c; "
                  "git mv moved.c inner/new.c; git commit -qam two; echo x >left.c; "
                  "echo x >'un tracked\".c'; echo x >'new\nline.c'; echo x >inner/staged.c; "
                  "git add inner/staged.c");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    run_shell("cd /; rm -rf \"$OLDPWD\"");
    return 0;
}

static kvern_status read_changes(struct map *changes, const char *where, const char *revision,
                                 kvern_error *err)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", folder, where);
    return git_changes_read(changes, path, revision, err);
}

static void what_counts_as_changed(void **state)
{
    static const struct {
        const char *where;
        const char *revision;
        const char *names[8];
    } cases[] = {
        {"repo",
         "HEAD~1",
         {"changed.c", "inner/in.c", "inner/new.c", "inner/staged.c", "un tracked\".c",
          "new\nline.c"}},
        {"repo", "HEAD", {"inner/staged.c", "un tracked\".c", "new\nline.c"}},
        {"repo/inner", "HEAD~1", {"in.c", "new.c", "staged.c"}},
        {"tree", "HEAD", {NULL}},
    };

    (void)state;
    if (!has_git())
        skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct map changes = {0};
        kvern_error err = {0};
        size_t n = 0;
        uint32_t value;

        if (read_changes(&changes, cases[i].where, cases[i].revision, &err) != KVERN_OK)
            fail_msg("case %zu: %s", i, err.message);
        for (; cases[i].names[n]; n++) {
            if (!map_get(&changes, cases[i].names[n], strlen(cases[i].names[n]), &value))
                fail_msg("case %zu: %s is not there", i, cases[i].names[n]);
        }
        assert_int_equal(changes.n_entries, n);
        map_clear(&changes);
    }
}

static void what_is_no_revision(void **state)
{
    static const struct {
        const char *where;
        const char *revision;
        const char *message;
    } cases[] = {
        {"repo", "", "'' is no revision"},
        {"repo", "-x", "'-x' is no revision"},
        {"repo", "--output=x", "'--output=x' is no revision"},
        {"repo", "nonesuch", "since 'nonesuch'"},
        {"repo", "HEAD; touch x", "since 'HEAD; touch x'"},
        {".", "HEAD", "git cannot tell what changed"},
    };

    (void)state;
    if (!has_git())
        skip();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct map changes = {0};
        kvern_error err = {0};

        assert_int_equal(read_changes(&changes, cases[i].where, cases[i].revision, &err),
                         KVERN_INVALID);
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s: %s", cases[i].revision, err.message);
        map_clear(&changes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_counts_as_changed),
        cmocka_unit_test(what_is_no_revision),
    };

    return cmocka_run_group_tests(tests, make_repository, remove_folder);
}
