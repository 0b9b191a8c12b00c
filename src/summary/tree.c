/* SPDX-License-Identifier: Apache-2.0
 *
 * struct tree: a stack of open folders; each call goes on where the last one stopped. The paths
 * (as shown, and as ignore rules count) are two buffers that grow and shrink with the stack.
 */
#include "summary/tree.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/map.h"
#include "base/memory.h"
#include "summary/folder.h"
#include "summary/tree_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_BYTES = 8192 };

struct level {
    struct folder folder;
    size_t next;             /* of folder.names */
    size_t n_path_bytes;     /* of tree.path, what leads into it */
    size_t n_relative_bytes; /* of tree.relative */
};

struct tree {
    const char *const *paths; /* [n_paths] */
    size_t n_paths;
    size_t next_path;
    struct tree_options options;
    struct ignore_rules include;
    struct ignore_rules exclude;
    struct level levels[TREE_MAX_DEPTH];
    size_t n_levels;
    struct ignore_stack rules;
    struct buffer path;     /* as shown */
    struct buffer relative; /* from the root of the repository, or from PATH */
    size_t n_root_bytes;    /* of path: PATH and its slash */
    struct map seen;        /* folders, and files where there are several PATHs */
    struct buffer text;
    char detail[128];
};

static kvern_status add_globs(struct ignore_rules *rules, const char *const *globs, size_t n,
                              kvern_error *err)
{
    kvern_status status = KVERN_OK;

    for (size_t i = 0; i < n && status == KVERN_OK; i++)
        status = ignore_rules_add_pattern(rules, globs[i], strlen(globs[i]), err);
    return status;
}

kvern_status tree_open(struct tree **out, const char *const *paths, size_t n_paths,
                       const struct tree_options *options, kvern_error *err)
{
    struct tree *tree = new_or_abort(sizeof *tree);
    struct stat status;
    kvern_status result = KVERN_OK;

    tree->paths = paths;
    tree->n_paths = n_paths;
    tree->options = *options;
    if (tree->options.max_file_bytes == 0)
        tree->options.max_file_bytes = TREE_DEFAULT_FILE_BYTES;
    for (size_t i = 0; i < n_paths && result == KVERN_OK; i++) {
        if (stat(paths[i], &status) != 0)
            result = fail(err, errno == ENOENT || errno == ENOTDIR ? KVERN_NOT_FOUND : KVERN_IO,
                          "%s: %s", paths[i], strerror(errno));
    }
    if (result == KVERN_OK)
        result = add_globs(&tree->include, options->include, options->n_include, err);
    if (result == KVERN_OK)
        result = add_globs(&tree->exclude, options->exclude, options->n_exclude, err);
    if (result == KVERN_OK)
        *out = tree;
    else
        tree_close(tree);
    return result;
}

/* Are the paths that were put together whole? */
static kvern_status have_paths(const struct tree *tree, kvern_error *err)
{
    return tree->path.has_failed || tree->relative.has_failed
               ? fail(err, KVERN_MEMORY, "no memory for a path under %s",
                      tree->paths[tree->next_path - 1])
               : KVERN_OK;
}

static void give(const struct tree *tree, struct tree_entry *entry, enum skip_reason skip,
                 bool is_folder)
{
    entry->path = tree->path.data;
    entry->n_path_bytes = tree->path.n_bytes;
    entry->path_index = tree->next_path - 1;
    entry->skip = skip;
    entry->is_folder = is_folder;
    entry->detail = tree->detail;
    if (skip != SKIP_NONE)
        return;
    entry->text = tree->text.data;
    entry->n_bytes = tree->text.n_bytes;
}

static enum skip_reason unreadable(struct tree *tree)
{
    snprintf(tree->detail, sizeof tree->detail, "%m");
    return SKIP_UNREADABLE;
}

/* Puts a folder (n_bytes 0) or a name in it into the set; *is_new false: it is there already. */
static kvern_status see(struct tree *tree, const struct folder *folder, const char *name,
                        bool *is_new, kvern_error *err)
{
    struct buffer key = {0};
    uint32_t value;
    kvern_status status = KVERN_OK;

    buffer_add(&key, &folder->device, sizeof folder->device);
    buffer_add(&key, &folder->inode, sizeof folder->inode);
    buffer_add_string(&key, name);
    *is_new = !key.has_failed && !map_get(&tree->seen, key.data, key.n_bytes, &value);
    if (key.has_failed || (*is_new && !map_put(&tree->seen, key.data, key.n_bytes, 1)))
        status = fail(err, KVERN_MEMORY, "no memory to remember what was seen of %s",
                      tree->paths[tree->next_path - 1]);
    buffer_clear(&key);
    return status;
}

/* Reads on from a file until `max_bytes` are there or it ends; false: errno says why not. */
static bool read_up_to(struct tree *tree, int fd, size_t max_bytes)
{
    char block[HEAD_BYTES];
    ssize_t n = 1;

    while (tree->text.n_bytes < max_bytes && n != 0) {
        size_t wanted = max_bytes - tree->text.n_bytes;

        n = read(fd, block, wanted < sizeof block ? wanted : sizeof block);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            buffer_add(&tree->text, block, (size_t)n);
    }
    return true;
}

static bool is_language_wanted(const struct tree *tree, const struct language *language)
{
    for (size_t i = 0; i < tree->options.n_languages; i++) {
        if (tree->options.languages[i] == language)
            return true;
    }
    return tree->options.n_languages == 0;
}

/* By the language, given the file's first bytes. */
static enum skip_reason check_language(const struct tree *tree, const char *name, bool is_named,
                                       const struct language **language)
{
    *language = language_of(name, tree->text.data, tree->text.n_bytes);
    if (!*language) {
        if (skip_is_binary(tree->text.data, tree->text.n_bytes))
            return SKIP_BINARY;
        if (!is_named)
            return SKIP_UNKNOWN;
        *language = language_plain();
    }
    if (is_named)
        return SKIP_NONE;
    if (!is_language_wanted(tree, *language))
        return SKIP_EXCLUDED;
    return (*language)->is_data && tree->options.n_languages == 0 ? SKIP_DATA : SKIP_NONE;
}

static enum skip_reason oversized(struct tree *tree, size_t n_bytes)
{
    snprintf(tree->detail, sizeof tree->detail, "%zu bytes", n_bytes);
    return SKIP_OVERSIZED;
}

/* Decides about a file that is not opened. */
static enum skip_reason guess_file(struct tree *tree, const struct stat *status, const char *name,
                                   bool is_named, const struct language **language)
{
    enum skip_reason skip;

    if (!S_ISREG(status->st_mode))
        return SKIP_NOT_REGULAR;
    buffer_truncate(&tree->text, 0);
    buffer_add(&tree->text, "", 0);
    if (tree->text.has_failed)
        return SKIP_NONE;
    skip = check_language(tree, path_base(name), is_named, language);
    if (skip == SKIP_NONE && (size_t)status->st_size > tree->options.max_file_bytes)
        skip = oversized(tree, (size_t)status->st_size);
    return skip;
}

/* Opens and reads a regular file, and decides about it by what is in it. */
static enum skip_reason read_file(struct tree *tree, int folder, const char *name, bool is_named,
                                  const struct language **language)
{
    struct stat status;
    enum skip_reason skip = SKIP_NONE;
    size_t max_bytes = tree->options.max_file_bytes;
    int fd = openat(folder, name, /* O_NONBLOCK: it may have become a FIFO */
                    O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (is_named ? 0 : O_NOFOLLOW));

    if (fd < 0)
        return errno == ELOOP ? SKIP_LINK : unreadable(tree);
    if (fstat(fd, &status) != 0) {
        skip = unreadable(tree);
        goto done;
    }
    if (!S_ISREG(status.st_mode)) {
        skip = SKIP_NOT_REGULAR;
        goto done;
    }
    buffer_truncate(&tree->text, 0);
    buffer_add(&tree->text, "", 0); /* an empty file has a text, too */
    if (!read_up_to(tree, fd, HEAD_BYTES)) {
        skip = unreadable(tree);
        goto done;
    }
    skip = tree->text.has_failed ? SKIP_NONE
                                 : check_language(tree, path_base(name), is_named, language);
    if (skip != SKIP_NONE)
        goto done;
    if ((size_t)status.st_size <= max_bytes && !read_up_to(tree, fd, max_bytes + 1)) {
        skip = unreadable(tree);
    } else if ((size_t)status.st_size > max_bytes || tree->text.n_bytes > max_bytes) {
        skip = oversized(tree, (size_t)status.st_size > max_bytes ? (size_t)status.st_size
                                                                  : tree->text.n_bytes);
    } else if (!tree->text.has_failed) {
        skip = skip_by_text(tree->text.data, tree->text.n_bytes, *language);
        if (skip == SKIP_GENERATED && (is_named || tree->options.keeps_generated))
            skip = SKIP_NONE;
    }
done:
    close(fd);
    return skip;
}

static kvern_status visit_file(struct tree *tree, int folder, const char *name, bool is_named,
                               const struct stat *status, struct tree_entry *entry,
                               kvern_error *err)
{
    bool is_guess = tree->options.has_no_texts;
    enum skip_reason skip = is_guess ? guess_file(tree, status, name, is_named, &entry->language)
                                     : read_file(tree, folder, name, is_named, &entry->language);

    if (tree->text.has_failed) {
        buffer_clear(&tree->text);
        return fail(err, KVERN_MEMORY, "no memory for the text of %s", tree->path.data);
    }
    give(tree, entry, skip, false);
    if (is_guess && skip == SKIP_NONE) {
        entry->text = NULL;
        entry->n_bytes = (size_t)status->st_size;
    }
    return KVERN_OK;
}

/* By what was asked for, and by ignore rules: is the path, whose name is new, left out? */
static enum skip_reason check_rules(const struct tree *tree, bool is_folder)
{
    const char *inside = tree->path.data + tree->n_root_bytes;
    size_t n_inside = tree->path.n_bytes - tree->n_root_bytes;

    if (ignore_rules_match(&tree->exclude, inside, n_inside, is_folder) == IGNORE_EXCLUDED ||
        (!is_folder && tree->options.n_include > 0 &&
         !ignore_rules_cover(&tree->include, inside, n_inside)))
        return SKIP_EXCLUDED;
    return ignore_stack_excludes(&tree->rules, tree->relative.data, tree->relative.n_bytes,
                                 is_folder)
               ? SKIP_IGNORED
               : SKIP_NONE;
}

static enum skip_reason check_file_name(const struct tree *tree, const char *name)
{
    enum skip_reason skip = skip_by_file(name);

    if (tree->options.keeps_generated && (skip == SKIP_GENERATED || skip == SKIP_LOCK_FILE))
        skip = SKIP_NONE;
    return skip;
}

static void leave_folder(struct tree *tree)
{
    folder_close(&tree->levels[--tree->n_levels].folder);
    if (!tree->options.keeps_ignored)
        ignore_stack_pop(&tree->rules);
}

/* A folder that says of itself that it was made by a machine. */
static bool is_marked(const struct folder *folder)
{
    return folder_has(folder, "pyvenv.cfg") || folder_has(folder, "CACHEDIR.TAG");
}

/* Opens a folder and decides whether to walk it. */
static kvern_status open_folder(struct tree *tree, int parent, const char *name, bool is_named,
                                struct folder *folder, enum skip_reason *skip, kvern_error *err)
{
    bool is_new;

    *skip = SKIP_NONE;
    if (tree->n_levels == TREE_MAX_DEPTH) {
        *skip = SKIP_TOO_DEEP;
        return KVERN_OK;
    }
    if (folder_open(folder, parent, name, is_named) != FOLDER_OK) {
        *skip = errno == ELOOP ? SKIP_LINK : unreadable(tree);
        return KVERN_OK;
    }
    if (see(tree, folder, "", &is_new, err))
        return KVERN_MEMORY;
    if (!is_new) {
        *skip = SKIP_SEEN;
        return KVERN_OK;
    }
    switch (folder_read(folder)) {
    case FOLDER_UNREADABLE:
        if (errno == ENOMEM)
            return fail(err, KVERN_MEMORY, "no memory for the names in %s", tree->path.data);
        *skip = unreadable(tree);
        break;
    case FOLDER_TOO_MANY:
        *skip = SKIP_TOO_MANY;
        break;
    case FOLDER_OK:
        if (!is_named && !tree->options.keeps_vendored && is_marked(folder))
            *skip = SKIP_VENDORED;
        break;
    }
    return KVERN_OK;
}

/* Enters the folder whose path is in the buffers, without a slash at their ends, or gives the skip.
 */
static kvern_status enter_folder(struct tree *tree, int parent, const char *name, bool is_named,
                                 struct tree_entry *entry, kvern_error *err)
{
    struct level *level = &tree->levels[tree->n_levels];
    struct folder folder = {.fd = -1};
    enum skip_reason skip;
    kvern_status status = open_folder(tree, parent, name, is_named, &folder, &skip, err);

    if (status != KVERN_OK || skip != SKIP_NONE) {
        folder_close(&folder);
        if (status != KVERN_OK)
            return status;
        if (is_named) { /* shown as it was given */
            buffer_truncate(&tree->path, 0);
            buffer_add_string(&tree->path, name);
        }
        status = have_paths(tree, err);
        if (status == KVERN_OK)
            give(tree, entry, skip, true);
        return status;
    }
    if (!is_named) { /* what leads to a PATH is in the buffers with its slash */
        buffer_add_byte(&tree->path, '/');
        buffer_add_byte(&tree->relative, '/');
    }
    status = have_paths(tree, err);
    *level = (struct level){.folder = folder,
                            .n_path_bytes = tree->path.n_bytes,
                            .n_relative_bytes = tree->relative.n_bytes};
    if (status == KVERN_OK && !tree->options.keeps_ignored)
        status = tree_rules_enter(&tree->rules, folder.fd, tree->relative.n_bytes,
                                  folder_has(&folder, ".git"), err);
    if (status == KVERN_OK)
        tree->n_levels++;
    else
        folder_close(&level->folder);
    return status;
}

static kvern_status start_path(struct tree *tree, struct tree_entry *entry, kvern_error *err)
{
    const char *path = tree->paths[tree->next_path++];
    size_t n = strlen(path);
    struct stat status;
    kvern_status result = KVERN_OK;

    ignore_stack_clear(&tree->rules);
    buffer_truncate(&tree->path, 0);
    buffer_truncate(&tree->relative, 0);
    buffer_add(&tree->path, path, n);
    buffer_add(&tree->relative, "", 0);
    if (have_paths(tree, err))
        return KVERN_MEMORY;
    if (stat(path, &status) != 0) {
        give(tree, entry, unreadable(tree), false);
        return KVERN_OK;
    }
    if (!S_ISDIR(status.st_mode)) {
        char *parent = path_directory(path);
        struct folder folder = {.fd = -1};
        bool is_new = true;

        if (tree->n_paths > 1 && folder_open(&folder, AT_FDCWD, parent, true) == FOLDER_OK)
            result = see(tree, &folder, path_base(path), &is_new, err);
        folder_close(&folder);
        free(parent);
        if (result == KVERN_OK && !is_new)
            give(tree, entry, SKIP_SEEN, false);
        return result != KVERN_OK || !is_new
                   ? result
                   : visit_file(tree, AT_FDCWD, path, true, &status, entry, err);
    }
    while (n > 1 && path[n - 1] == '/')
        n--;
    buffer_truncate(&tree->path, n);
    if (!tree->options.keeps_ignored)
        result = tree_rules_enter_above(&tree->rules, path, &tree->relative, err);
    if (result != KVERN_OK)
        return result;
    if (strcmp(tree->path.data, ".") == 0) /* "a/b.c" reads better than "./a/b.c" */
        buffer_truncate(&tree->path, 0);
    else if (tree->path.data[n - 1] != '/')
        buffer_add_byte(&tree->path, '/');
    tree->n_root_bytes = tree->path.n_bytes;
    result = have_paths(tree, err);
    if (result != KVERN_OK)
        return result;
    return enter_folder(tree, AT_FDCWD, path, true, entry, err);
}

/* Looks at the next name of the folder that is open. */
static kvern_status visit_name(struct tree *tree, struct level *level, struct tree_entry *entry,
                               kvern_error *err)
{
    const char *name = level->folder.names[level->next++];
    int fd = level->folder.fd;
    struct stat status;
    enum skip_reason skip;
    bool is_new = true;

    buffer_truncate(&tree->path, level->n_path_bytes);
    buffer_truncate(&tree->relative, level->n_relative_bytes);
    buffer_add_string(&tree->path, name);
    buffer_add_string(&tree->relative, name);
    if (have_paths(tree, err))
        return KVERN_MEMORY;
    if (fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        give(tree, entry, unreadable(tree), false);
        return KVERN_OK;
    }

    bool is_folder = S_ISDIR(status.st_mode);
    enum skip_reason by_name = is_folder ? skip_by_folder(name) : check_file_name(tree, name);
    if (tree->options.keeps_vendored && by_name == SKIP_VENDORED)
        by_name = SKIP_NONE;
    if (S_ISLNK(status.st_mode))
        skip = SKIP_LINK;
    else if (by_name == SKIP_VERSION_CONTROL)
        skip = by_name;
    else if (!is_folder && !S_ISREG(status.st_mode))
        skip = SKIP_NOT_REGULAR;
    else
        skip = check_rules(tree, is_folder);
    if (skip == SKIP_NONE)
        skip = by_name;
    if (skip == SKIP_NONE && is_folder)
        return enter_folder(tree, fd, name, false, entry, err);
    if (skip == SKIP_NONE && tree->n_paths > 1 && see(tree, &level->folder, name, &is_new, err))
        return KVERN_MEMORY;
    if (skip == SKIP_NONE && is_new)
        return visit_file(tree, fd, name, false, &status, entry, err);
    give(tree, entry, is_new ? skip : SKIP_SEEN, is_folder);
    return KVERN_OK;
}

kvern_status tree_next(struct tree *tree, struct tree_entry *entry, kvern_error *err)
{
    kvern_status status = KVERN_OK;

    *entry = (struct tree_entry){0};
    tree->detail[0] = '\0';
    while (status == KVERN_OK && !entry->path) {
        struct level *level = tree->n_levels ? &tree->levels[tree->n_levels - 1] : NULL;

        if (!level && tree->next_path == tree->n_paths)
            break;
        if (!level)
            status = start_path(tree, entry, err);
        else if (level->next == level->folder.n_names)
            leave_folder(tree);
        else
            status = visit_name(tree, level, entry, err);
    }
    return status;
}

void tree_close(struct tree *tree)
{
    if (!tree)
        return;
    while (tree->n_levels > 0)
        leave_folder(tree);
    ignore_rules_clear(&tree->include);
    ignore_rules_clear(&tree->exclude);
    ignore_stack_clear(&tree->rules);
    buffer_clear(&tree->path);
    buffer_clear(&tree->relative);
    buffer_clear(&tree->text);
    map_clear(&tree->seen);
    free(tree);
}
