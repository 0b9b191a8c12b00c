/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern_convert: a checkpoint becomes a model directory. All files are written into TARGET.tmp-PID
 * beside the target, synced, and the directory is renamed at the end; whatever fails before that
 * takes the temporary directory with it. The graph is graph_decoder's, graph_encoder's or
 * graph_seq2seq's matter, the weights pack's.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "convert/checkpoint.h"
#include "convert/embedding_config.h"
#include "convert/graph_decoder.h"
#include "convert/graph_encoder.h"
#include "convert/graph_seq2seq.h"
#include "convert/onnx_file.h"
#include "kvern.h"
#include "model/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char TOKENIZER_FILE[] = "tokenizer.json";
static const char TEMPLATE_FILE[] = "chat_template.jinja";

enum { SPARE_BYTES = 8 << 20 }; /* graph, alignment, manifest: more than they take */

struct conversion {
    const kvern_convert_options *options;
    struct checkpoint checkpoint;
    struct decoder_plan decoder; /* all but the one of the model's kind are zeroed */
    struct encoder_plan encoder;
    struct seq2seq_plan seq2seq;
    size_t data_bytes; /* of the plan there is */
    struct manifest manifest;
    char *target;    /* owned; without trailing slashes */
    char *parent;    /* owned; the directory the target stands in */
    char *temporary; /* owned; NULL until it was made and after the rename */
    size_t n_made;   /* directories above the target that were not there before */
    kvern_error *err;
};

void kvern_convert_options_init(kvern_convert_options *options)
{
    *options = (kvern_convert_options){0};
}

static kvern_status choose_weights(const char *what, const char *name, enum weights_choice *choice,
                                   kvern_error *err)
{
    static const struct {
        const char *name;
        enum weights_choice choice;
    } choices[] = {{"q4", WEIGHTS_Q4}, {"q8", WEIGHTS_Q8}, {"f32", WEIGHTS_F32}};

    if (!name)
        return KVERN_OK;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (!strcmp(name, choices[i].name)) {
            *choice = choices[i].choice;
            return KVERN_OK;
        }
    }
    return fail(err, KVERN_INVALID, "%s \"%s\" is not q4, q8 or f32", what, name);
}

/* A name for the manifest: not empty, UTF-8, and short enough. */
static kvern_status set_name(char out[MANIFEST_MAX_NAME], const char *what, const char *name,
                             kvern_error *err)
{
    size_t n_bytes = strlen(name);

    if (n_bytes == 0 || n_bytes >= MANIFEST_MAX_NAME || !utf8_is_valid(name, n_bytes))
        return fail(err, KVERN_INVALID, "the %s name \"%s\" is not UTF-8 of 1 to %d bytes", what,
                    name, MANIFEST_MAX_NAME - 1);
    memcpy(out, name, n_bytes + 1);
    return KVERN_OK;
}

/* The target without trailing slashes, the directory above it, and the names for the manifest. */
static kvern_status set_paths(struct conversion *c)
{
    const kvern_convert_options *options = c->options;
    char source[PATH_MAX];
    size_t n_bytes = strlen(options->target);
    const char *name;
    kvern_status status;

    while (n_bytes > 1 && options->target[n_bytes - 1] == '/')
        n_bytes--;
    c->target = copy_bytes_or_abort(options->target, n_bytes);
    name = path_base(c->target);
    n_bytes = (size_t)(name - c->target);
    c->parent = n_bytes == 0 ? copy_string_or_abort(".")
                             : copy_bytes_or_abort(c->target, n_bytes > 1 ? n_bytes - 1 : 1);
    status = set_name(c->manifest.name, "model's", options->name ? options->name : name, c->err);
    if (status != KVERN_OK)
        return status;
    if (!realpath(options->source, source))
        return fail(c->err, errno == ENOENT ? KVERN_NOT_FOUND : KVERN_IO, "cannot open %s: %s",
                    options->source, strerror(errno));
    return set_name(c->manifest.source, "source's", path_base(source), c->err);
}

/* Overwriting removes the old directory with all in it, so it must be a model directory. */
static kvern_status check_target(const struct conversion *c)
{
    struct stat info;
    char *manifest;
    bool is_model;

    if (lstat(c->target, &info) != 0)
        return KVERN_OK;
    if (!c->options->overwrite)
        return fail(c->err, KVERN_INVALID, "%s is there already", c->target);
    manifest = path_join(c->target, MANIFEST_FILE);
    is_model = S_ISDIR(info.st_mode) && file_exists(manifest);
    free(manifest);
    if (!is_model)
        return fail(c->err, KVERN_INVALID,
                    "%s is no model directory (it has no " MANIFEST_FILE "), so it is not replaced",
                    c->target);
    return KVERN_OK;
}

static kvern_status check_space(const struct conversion *c)
{
    size_t n_bytes = c->data_bytes + SPARE_BYTES;
    struct statvfs info;

    if (c->checkpoint.tokenizer_json)
        n_bytes += strlen(c->checkpoint.tokenizer_json);
    if (statvfs(c->parent, &info) != 0)
        return fail(c->err, KVERN_IO, "cannot ask for the free space of %s: %s", c->parent,
                    strerror(errno));
    if (n_bytes / info.f_frsize >= info.f_bavail)
        return fail(c->err, KVERN_IO, "%s needs %zu MB in %s, where %zu MB are free", c->target,
                    (n_bytes >> 20) + 1, c->parent,
                    (size_t)((double)info.f_bavail * (double)info.f_frsize / (1 << 20)));
    return KVERN_OK;
}

/* "a/b" becomes "a"; false if there is nothing above. */
static bool cut_last_part(char *path)
{
    char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return false;
    *slash = '\0';
    return true;
}

/* Makes the directories above the target, and counts those that were not there. */
static kvern_status make_parent(struct conversion *c)
{
    char *path = copy_string_or_abort(c->parent);

    while (!directory_exists(path)) {
        c->n_made++;
        if (!cut_last_part(path))
            break;
    }
    free(path);
    return directory_make(c->parent, c->err);
}

/* Removes the directories that make_parent made, innermost first; one that holds something by now
 * stays. */
static void remove_made_parents(struct conversion *c)
{
    while (c->n_made > 0 && (rmdir(c->parent) == 0 || errno == ENOENT) && cut_last_part(c->parent))
        c->n_made--;
}

static kvern_status make_temporary(struct conversion *c)
{
    size_t n_bytes = strlen(c->target) + 32;
    char *path = new_or_abort(n_bytes);
    kvern_status status;

    snprintf(path, n_bytes, "%s.tmp-%ld", c->target, (long)getpid());
    status = directory_remove(path, c->err); /* of a process that had this id and was killed */
    if (status == KVERN_OK && mkdir(path, 0777) != 0)
        status = fail(c->err, KVERN_IO, "cannot create directory %s: %s", path, strerror(errno));
    if (status == KVERN_OK)
        c->temporary = path;
    else
        free(path);
    return status;
}

/* The plan, and with it all that the manifest says of the model but its files. */
static kvern_status make_plan(struct conversion *c, enum weights_choice weights,
                              enum weights_choice table)
{
    const struct checkpoint *checkpoint = &c->checkpoint;
    struct manifest *manifest = &c->manifest;
    const char *weights_name;
    kvern_status status;

    manifest->config = checkpoint->config;
    snprintf(manifest->source_format, sizeof manifest->source_format, "%s", checkpoint->format);
    if (config_is_encoder(&checkpoint->config)) {
        status = encoder_plan_make(&c->encoder, checkpoint, weights, table, c->err);
        snprintf(manifest->contract, sizeof manifest->contract, "encoder");
        manifest->config.first_position = 0; /* the graph's table has neither */
        manifest->config.n_token_types = 0;
        manifest->n_parameters = c->encoder.n_parameters;
        weights_name = c->encoder.weights;
        c->data_bytes = c->encoder.data_bytes;
    } else if (config_is_seq2seq(&checkpoint->config)) {
        status = seq2seq_plan_make(&c->seq2seq, checkpoint, weights, table, c->err);
        snprintf(manifest->contract, sizeof manifest->contract, "seq2seq");
        manifest->config.relative_buckets = 0; /* the graph has a table instead */
        manifest->config.relative_max_distance = 0;
        manifest->kv_types = MANIFEST_KV_F16 | MANIFEST_KV_F32;
        manifest->n_parameters = c->seq2seq.n_parameters;
        weights_name = c->seq2seq.weights;
        c->data_bytes = c->seq2seq.data_bytes;
    } else {
        status = decoder_plan_make(&c->decoder, checkpoint, weights, table, c->err);
        snprintf(manifest->contract, sizeof manifest->contract, "paged");
        manifest->kv_types = MANIFEST_KV_F16 | MANIFEST_KV_F32;
        manifest->n_parameters = c->decoder.n_parameters;
        weights_name = c->decoder.weights;
        c->data_bytes = c->decoder.data_bytes;
    }
    if (status == KVERN_OK)
        snprintf(manifest->weights, sizeof manifest->weights, "%s", weights_name);
    return status;
}

/* What lies beside safetensors or a torch file about embedding; a GGUF is alone. */
static kvern_status read_embedding(struct conversion *c)
{
    const char *source = c->options->source;
    size_t max_positions = c->checkpoint.config.max_positions;
    char *directory;
    kvern_status status;

    if (strcmp(c->checkpoint.format, "safetensors") != 0 &&
        strcmp(c->checkpoint.format, "torch") != 0)
        return KVERN_OK;
    if (directory_exists(source))
        directory = copy_string_or_abort(source);
    else if (path_base(source) == source)
        directory = copy_string_or_abort(".");
    else
        directory = copy_bytes_or_abort(source, (size_t)(path_base(source) - source));
    status = embedding_config_read(&c->manifest.embedding, directory, max_positions, c->err);
    free(directory);
    return status;
}

static kvern_status write_graph(struct conversion *c)
{
    struct graph_progress progress = {
        .fn = c->options->on_progress,
        .user_data = c->options->on_progress_data,
        .total_bytes = (int64_t)c->data_bytes,
    };
    struct onnx_file *file = onnx_file_new(c->manifest.name);
    char *data_path = path_join(c->temporary, MANIFEST_DATA_FILE);
    char *graph_path = path_join(c->temporary, MANIFEST_GRAPH_FILE);
    kvern_status status;

    onnx_file_metadata(file, "kvern.contract", c->manifest.contract);
    onnx_file_metadata(file, "kvern.family", config_family_name(c->checkpoint.config.family));
    status = onnx_file_open_data(file, data_path, c->err);
    if (status == KVERN_OK && config_is_encoder(&c->checkpoint.config))
        status = graph_encoder_write(&c->encoder, file, &progress, c->err);
    else if (status == KVERN_OK && config_is_seq2seq(&c->checkpoint.config))
        status = graph_seq2seq_write(&c->seq2seq, file, &progress, c->err);
    else if (status == KVERN_OK)
        status = graph_decoder_write(&c->decoder, file, &progress, c->err);
    if (status == KVERN_OK)
        status = onnx_file_write(file, graph_path, c->err);
    onnx_file_free(file);
    free(graph_path);
    free(data_path);
    return status;
}

static kvern_status write_text(const struct conversion *c, const char *name, const char *text)
{
    struct file_writer writer = {0};
    char *path = path_join(c->temporary, name);
    kvern_status status = file_writer_open(&writer, path, c->err);

    if (status == KVERN_OK)
        status = file_writer_put(&writer, text, strlen(text), c->err);
    if (status == KVERN_OK)
        status = file_writer_commit(&writer, c->err);
    file_writer_clear(&writer);
    free(path);
    return status;
}

static kvern_status write_manifest(struct conversion *c)
{
    const char *names[] = {MANIFEST_GRAPH_FILE, MANIFEST_DATA_FILE,
                           c->checkpoint.tokenizer_json ? TOKENIZER_FILE : NULL,
                           c->checkpoint.chat_template ? TEMPLATE_FILE : NULL};
    struct manifest *manifest = &c->manifest;
    kvern_status status = KVERN_OK;
    int64_t n_bytes = (int64_t)c->data_bytes;

    if (c->options->on_progress && !c->options->on_progress("hashing the files", n_bytes, n_bytes,
                                                            c->options->on_progress_data))
        return fail(c->err, KVERN_CANCELLED, "the conversion was cancelled");
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == KVERN_OK; i++) {
        if (names[i])
            status = manifest_add_file(manifest, c->temporary, names[i], c->err);
    }
    if (status == KVERN_OK)
        status = manifest_write(manifest, c->temporary, c->err);
    return status;
}

/* So that the rename is on disk after the files it makes visible. */
static void sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

/* Puts the temporary directory in the target's place; an old target steps aside first and comes
 * back if that fails. */
static kvern_status publish(struct conversion *c)
{
    size_t n_bytes = strlen(c->target) + 32;
    char *old = new_or_abort(n_bytes);
    bool has_old = c->options->overwrite && directory_exists(c->target);
    kvern_status status = KVERN_OK;
    kvern_error ignored;

    snprintf(old, n_bytes, "%s.old-%ld", c->target, (long)getpid());
    sync_directory(c->temporary);
    if ((has_old && rename(c->target, old) != 0) || rename(c->temporary, c->target) != 0) {
        status = fail(c->err, KVERN_IO, "cannot rename %s to %s: %s", c->temporary, c->target,
                      strerror(errno));
        if (has_old && !directory_exists(c->target))
            rename(old, c->target);
        goto done;
    }
    free(c->temporary);
    c->temporary = NULL;
    sync_directory(c->parent);
    if (has_old && directory_remove(old, &ignored) != KVERN_OK)
        log_warning("the replaced model could not be removed: %s", ignored.message);
done:
    free(old);
    return status;
}

/* Says which file a tensor's error is about. */
static kvern_status name_source(const struct conversion *c, kvern_status status)
{
    bool is_of_source = status == KVERN_FORMAT || status == KVERN_UNSUPPORTED;

    return is_of_source ? fail_in(c->err, status, "%s", c->options->source) : status;
}

static void conversion_clear(struct conversion *c, kvern_status status)
{
    kvern_error ignored;

    if (c->temporary && directory_remove(c->temporary, &ignored) != KVERN_OK)
        log_warning("a partial model could not be removed: %s", ignored.message);
    if (status != KVERN_OK)
        remove_made_parents(c);
    decoder_plan_clear(&c->decoder);
    encoder_plan_clear(&c->encoder);
    seq2seq_plan_clear(&c->seq2seq);
    checkpoint_close(&c->checkpoint);
    free(c->temporary);
    free(c->parent);
    free(c->target);
}

kvern_status kvern_convert(const kvern_convert_options *options, kvern_error *err)
{
    struct conversion c = {.options = options, .err = err};
    enum weights_choice weights = WEIGHTS_KEEP;
    enum weights_choice table;
    kvern_status status;

    if (!options->source || !options->target || !options->target[0])
        return fail(err, KVERN_INVALID, "a conversion needs a source and a target");
    status = choose_weights("weights", options->weights, &weights, err);
    /* a small model loses more by a 4-bit table than by all its other matrices */
    table = weights == WEIGHTS_Q4 ? WEIGHTS_KEEP : weights;
    if (status == KVERN_OK)
        status = choose_weights("table", options->table, &table, err);
    if (status == KVERN_OK)
        status = set_paths(&c);
    if (status == KVERN_OK)
        status = check_target(&c);
    if (status == KVERN_OK)
        status = checkpoint_open(&c.checkpoint, options->source, err);
    if (status == KVERN_OK)
        status = name_source(&c, make_plan(&c, weights, table));
    if (status == KVERN_OK)
        status = read_embedding(&c);
    if (status == KVERN_OK)
        status = make_parent(&c);
    if (status == KVERN_OK)
        status = check_space(&c);
    if (status == KVERN_OK)
        status = make_temporary(&c);
    if (status == KVERN_OK)
        status = name_source(&c, write_graph(&c));
    if (status == KVERN_OK && c.checkpoint.tokenizer_json)
        status = write_text(&c, TOKENIZER_FILE, c.checkpoint.tokenizer_json);
    if (status == KVERN_OK && c.checkpoint.chat_template)
        status = write_text(&c, TEMPLATE_FILE, c.checkpoint.chat_template);
    if (status == KVERN_OK)
        status = write_manifest(&c);
    if (status == KVERN_OK)
        status = publish(&c);
    conversion_clear(&c, status);
    return status;
}
