/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of the hub's two calls: the list of a revision's files, and a file. Names in the list
 * are untrusted: only the names of the few files a conversion reads are taken.
 */
#include "model/hub.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LIST_BYTES = 8 << 20, MAX_FILES = 256, MAX_TRIES = 3 };

struct hub_file {
    char name[160];
    int64_t n_bytes; /* -1: not told */
    char sha256[65]; /* "": not told */
};

struct hub {
    const char *endpoint;
    const char *repository;
    const char *revision;
    const char *directory;
    kvern_progress_fn on_progress;
    void *on_progress_data;
    struct hub_file *files; /* [n_files], owned */
    size_t n_files;
    int64_t done_bytes; /* of files that are complete */
    int64_t total_bytes;
};

/* One transfer: into a buffer (lists) or a file. */
struct transfer {
    struct hub *hub;
    const char *what;
    struct buffer *buffer;
    FILE *file;
    int64_t n_received;
    bool is_cancelled;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t receive(char *data, size_t size, size_t n, void *context)
{
    struct transfer *transfer = context;
    size_t n_bytes = size * n;

    transfer->n_received += (int64_t)n_bytes;
    if (transfer->file)
        return fwrite(data, 1, n_bytes, transfer->file);
    if (transfer->buffer->n_bytes + n_bytes > MAX_LIST_BYTES)
        return 0;
    buffer_add(transfer->buffer, data, n_bytes);
    return transfer->buffer->has_failed ? 0 : n_bytes;
}

static int tick(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                curl_off_t up_now)
{
    struct transfer *transfer = context;
    struct hub *hub = transfer->hub;

    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    if (hub->on_progress &&
        !hub->on_progress(transfer->what, hub->done_bytes + transfer->n_received, hub->total_bytes,
                          hub->on_progress_data))
        transfer->is_cancelled = true;
    return transfer->is_cancelled;
}

/* One GET from byte `offset` on. `code` gets the HTTP status, or 0. */
static kvern_status get(struct transfer *transfer, const char *url, int64_t offset, long *code,
                        kvern_error *err)
{
    char reason[CURL_ERROR_SIZE] = "";
    const char *token = getenv("HF_TOKEN");
    CURL *curl;

    pthread_once(&curl_once, start_curl);
    curl = curl_easy_init();
    if (!curl)
        return fail(err, KVERN_MEMORY, "out of memory for a download");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 8L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 100L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "kvern");
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, tick);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    if (offset > 0)
        curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)offset);
    if (token && *token) {
        curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, token);
    }
    CURLcode result = curl_easy_perform(curl);
    *code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, code);
    curl_easy_cleanup(curl);
    if (transfer->is_cancelled)
        return fail(err, KVERN_CANCELLED, "%s was cancelled", transfer->what);
    if (result == CURLE_OK)
        return KVERN_OK;
    if (*code == 404)
        return fail(err, KVERN_NOT_FOUND, "the hub has no %s (revision %s)",
                    transfer->hub->repository, transfer->hub->revision);
    if (*code == 401 || *code == 403)
        return fail(err, KVERN_IO, "the hub does not give %s without a permission; set HF_TOKEN",
                    transfer->hub->repository);
    return fail(err, KVERN_IO, "%s failed: %s; check the network and try again", transfer->what,
                *reason ? reason : curl_easy_strerror(result));
}

static bool is_plain_name(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n >= sizeof(((struct hub_file *)NULL)->name) || name[0] == '.')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name);
    size_t n_ending = strlen(ending);

    return n >= n_ending && strcmp(name + n - n_ending, ending) == 0;
}

/* What goes with weights: plain names, and the one below a folder that a conversion reads. */
static bool is_wanted(const char *name)
{
    static const char *const names[] = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "special_tokens_map.json",
        "added_tokens.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* The forms of weights a conversion reads: files of these names and endings, with the index of
 * shards. Of a repository's the first that is there is taken. */
static const struct weights_form {
    const char *begins;
    const char *ends;
    const char *index;
} weights_forms[] = {
    {"model", ".safetensors", "model.safetensors.index.json"},
    {"pytorch_model", ".bin", "pytorch_model.bin.index.json"},
};

static bool is_weights(const struct weights_form *form, const char *name)
{
    return is_plain_name(name) && strncmp(name, form->begins, strlen(form->begins)) == 0 &&
           ends_with(name, form->ends);
}

static const char *name_of(const json_t *siblings, size_t i)
{
    return json_string_value(json_object_get(json_array_get(siblings, i), "rfilename"));
}

/* NULL: the list has none. */
static const struct weights_form *choose_form(const json_t *siblings)
{
    for (size_t f = 0; f < sizeof weights_forms / sizeof *weights_forms; f++) {
        for (size_t i = 0; i < json_array_size(siblings); i++) {
            const char *name = name_of(siblings, i);

            if (name && is_weights(&weights_forms[f], name))
                return &weights_forms[f];
        }
    }
    return NULL;
}

static kvern_status add_file(struct hub *hub, const json_t *entry, const char *name,
                             kvern_error *err)
{
    const json_t *lfs = json_object_get(entry, "lfs");
    const json_t *size = json_object_get(entry, "size");
    const char *sha256 = json_string_value(json_object_get(lfs, "sha256"));

    if (hub->n_files == MAX_FILES)
        return fail(err, KVERN_LIMIT, "%s has over %d files", hub->repository, MAX_FILES);
    struct hub_file *file = &hub->files[hub->n_files++];
    snprintf(file->name, sizeof file->name, "%s", name);
    snprintf(file->sha256, sizeof file->sha256, "%s", sha256 ? sha256 : "");
    file->n_bytes =
        json_is_integer(size) && json_integer_value(size) >= 0 ? json_integer_value(size) : -1;
    if (file->n_bytes > 0)
        hub->total_bytes += file->n_bytes;
    return KVERN_OK;
}

/* The only .gguf of the list. */
static kvern_status choose_gguf(struct hub *hub, const json_t *siblings, kvern_error *err)
{
    const json_t *gguf = NULL;
    size_t n_gguf = 0;

    for (size_t i = 0; i < json_array_size(siblings); i++) {
        const char *name = name_of(siblings, i);

        if (name && is_plain_name(name) && ends_with(name, ".gguf")) {
            gguf = json_array_get(siblings, i);
            n_gguf++;
        }
    }
    if (n_gguf != 1)
        return fail(err, KVERN_UNSUPPORTED,
                    "%s has no safetensors, no pytorch_model.bin and %zu .gguf files; kvern pulls "
                    "one of the former or the only .gguf",
                    hub->repository, n_gguf);
    return add_file(hub, gguf, json_string_value(json_object_get(gguf, "rfilename")), err);
}

/* Takes the wanted files of the list: one form of weights and what goes with it, else a .gguf. */
static kvern_status choose_files(struct hub *hub, const json_t *siblings, kvern_error *err)
{
    const struct weights_form *form = choose_form(siblings);
    kvern_status status = KVERN_OK;

    if (!form)
        return choose_gguf(hub, siblings, err);
    for (size_t i = 0; status == KVERN_OK && i < json_array_size(siblings); i++) {
        const char *name = name_of(siblings, i);

        if (name && (is_wanted(name) || is_weights(form, name) || strcmp(name, form->index) == 0))
            status = add_file(hub, json_array_get(siblings, i), name, err);
    }
    return status;
}

static kvern_status list_files(struct hub *hub, kvern_error *err)
{
    struct buffer list = {0};
    struct buffer url = {0};
    struct transfer transfer = {.hub = hub, .what = "listing the repository", .buffer = &list};
    json_error_t problem;
    json_t *root = NULL;
    long code;

    buffer_add_format(&url, "%s/api/models/%s/revision/%s?blobs=true", hub->endpoint,
                      hub->repository, hub->revision);
    kvern_status status = get(&transfer, url.data, 0, &code, err);
    if (status == KVERN_OK) {
        root = json_loadb(list.data ? list.data : "", list.n_bytes, 0, &problem);
        const json_t *siblings = json_object_get(root, "siblings");

        if (!json_is_array(siblings))
            status =
                fail(err, KVERN_FORMAT, "the hub's list of %s is not understood", hub->repository);
        else
            status = choose_files(hub, siblings, err);
    }
    json_decref(root);
    buffer_clear(&list);
    buffer_clear(&url);
    return status;
}

static int64_t file_bytes(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
}

/* Size and hash as told; a wrong file is removed, so that the next try starts afresh. */
static kvern_status check_file(const struct hub_file *file, const char *part, kvern_error *err)
{
    char hex[65] = "";
    kvern_status status = KVERN_OK;

    if (file->n_bytes >= 0 && file_bytes(part) != file->n_bytes)
        status = fail(err, KVERN_IO, "%s has %lld bytes, the hub says %lld", file->name,
                      (long long)file_bytes(part), (long long)file->n_bytes);
    else if (*file->sha256) {
        status = file_sha256(part, hex, err);
        if (status == KVERN_OK && strcmp(hex, file->sha256) != 0)
            status = fail(err, KVERN_FORMAT, "%s has sha256 %s, the hub says %s", file->name, hex,
                          file->sha256);
    }
    return status;
}

/* One try at a file, going on where an earlier one stopped. */
static kvern_status try_file(struct hub *hub, const struct hub_file *file, const char *part,
                             kvern_error *err)
{
    struct buffer url = {0};
    char what[200];
    int64_t offset = file_bytes(part);
    long code = 0;

    if (file->n_bytes >= 0 && offset > file->n_bytes) {
        unlink(part);
        offset = 0;
    }
    if (file->n_bytes >= 0 && offset == file->n_bytes && offset > 0) {
        kvern_status checked = check_file(file, part, err);

        if (checked != KVERN_OK)
            unlink(part);
        return checked;
    }

    snprintf(what, sizeof what, "fetching %s", file->name);
    struct transfer transfer = {.hub = hub, .what = what, .n_received = offset};
    transfer.file = fopen(part, offset > 0 ? "abe" : "wbe");
    if (!transfer.file)
        return fail(err, KVERN_IO, "cannot create %s: %s", part, strerror(errno));
    buffer_add_format(&url, "%s/%s/resolve/%s/%s", hub->endpoint, hub->repository, hub->revision,
                      file->name);
    kvern_status status = get(&transfer, url.data, offset, &code, err);
    if (fclose(transfer.file) != 0 && status == KVERN_OK)
        status = fail(err, KVERN_IO, "cannot write %s: %s", part, strerror(errno));
    /* a server that knows no ranges, or none of this file: the next try starts afresh */
    bool is_range_refused = status == KVERN_IO && offset > 0 && (code == 200 || code == 416);
    if (status == KVERN_OK)
        status = check_file(file, part, err);
    else if (!is_range_refused)
        goto done;
    if (status != KVERN_OK)
        unlink(part);
done:
    buffer_clear(&url);
    return status;
}

static kvern_status fetch_file(struct hub *hub, const struct hub_file *file, kvern_error *err)
{
    char *target = path_join(hub->directory, file->name);
    size_t n_bytes = strlen(target) + 6;
    char *part = new_or_abort(n_bytes);
    char *parent = copy_bytes_or_abort(target, (size_t)(path_base(target) - target));
    kvern_status status;

    snprintf(part, n_bytes, "%s.part", target);
    if (file_exists(target) && check_file(file, target, NULL) == KVERN_OK) {
        status = KVERN_OK;
        goto done;
    }
    status = directory_make(parent, err);
    if (status != KVERN_OK)
        goto done;
    status = KVERN_IO;
    for (int i = 0; i < MAX_TRIES && (status == KVERN_IO || status == KVERN_FORMAT); i++)
        status = try_file(hub, file, part, err);
    if (status == KVERN_OK && rename(part, target) != 0)
        status = fail(err, KVERN_IO, "cannot rename to %s: %s", target, strerror(errno));

done:
    if (status == KVERN_OK)
        hub->done_bytes += file->n_bytes > 0 ? file->n_bytes : 0;
    free(parent);
    free(part);
    free(target);
    return status;
}

kvern_status hub_fetch(const char *repository, const char *revision, const char *directory,
                       kvern_progress_fn on_progress, void *on_progress_data, kvern_error *err)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    const char *slash = strchr(repository, '/');
    struct hub hub = {
        .endpoint = endpoint && *endpoint ? endpoint : "https://huggingface.co",
        .repository = repository,
        .revision = revision,
        .directory = directory,
        .on_progress = on_progress,
        .on_progress_data = on_progress_data,
    };

    char *owner = copy_bytes_or_abort(repository, slash ? (size_t)(slash - repository) : 0);
    bool is_valid = slash && is_plain_name(owner) && is_plain_name(slash + 1);
    free(owner);
    if (!is_valid)
        return fail(err, KVERN_INVALID, "'%s' is not OWNER/REPOSITORY", repository);
    if (!is_plain_name(revision))
        return fail(err, KVERN_INVALID, "'%s' is not a revision's name", revision);
    hub.files = new_or_abort(MAX_FILES * sizeof *hub.files);
    kvern_status status = directory_make(directory, err);
    if (status == KVERN_OK)
        status = list_files(&hub, err);
    for (size_t i = 0; status == KVERN_OK && i < hub.n_files; i++)
        status = fetch_file(&hub, &hub.files[i], err);
    free(hub.files);
    return status;
}
