/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern.json: what a model directory says about itself. The file is untrusted: reading checks every
 * member's type and range, the format version, and that file names stay inside the directory, so a
 * manifest that was read is safe to size things by. Whether the graph itself agrees is for those
 * who open it to check. Holds no weights.
 */
#ifndef KVERN_MODEL_MANIFEST_H
#define KVERN_MODEL_MANIFEST_H

#include "kvern.h"
#include "model/config.h"
#include "model/manifest_embedding.h"

#include <stddef.h>
#include <stdint.h>

#define MANIFEST_FILE "kvern.json"
#define MANIFEST_GRAPH_FILE "model.onnx"
#define MANIFEST_DATA_FILE "model.onnx.data"

enum {
    MANIFEST_VERSION = 2,
    MANIFEST_MAX_FILES = 16,
    MANIFEST_MAX_NAME = 256,         /* bytes of a name, with its NUL */
    MANIFEST_SMALL_BYTES = 16 << 20, /* graph, tokenizer, template: hashed at every open */
};

/* KV types the graph can run with: bits of kv_types. */
enum { MANIFEST_KV_F16 = 1, MANIFEST_KV_F32 = 2 };

struct manifest_file {
    char name[MANIFEST_MAX_NAME]; /* of a file in the directory itself: no '/' */
    int64_t n_bytes;
    char sha256[65]; /* lower-case hex */
};

/* A plain value: owns nothing. */
struct manifest {
    char name[MANIFEST_MAX_NAME];
    char contract[16]; /* "paged"; "encoder", "seq2seq": by the config's kind */
    char weights[8];   /* "q4", "q8", "f32", "mixed" */
    unsigned kv_types; /* at least one bit; none for an encoder */
    struct model_config config;
    struct manifest_embedding embedding; /* zeroed: the model says nothing about embedding */
    int64_t n_parameters;
    char source[MANIFEST_MAX_NAME]; /* file or folder name it was converted from, no path */
    char source_format[16];         /* "gguf", "safetensors", "torch" */
    struct manifest_file files[MANIFEST_MAX_FILES];
    size_t n_files;
};

/* From and to the text of a kvern.json; *text is malloc'ed. */
kvern_status manifest_parse(struct manifest *manifest, const char *text, size_t n_bytes,
                            kvern_error *err);
kvern_status manifest_format(const struct manifest *manifest, char **text, kvern_error *err);
/* From DIRECTORY/kvern.json, which may be no symbolic link, and checks that every file named is
 * there, is a regular file, no symbolic link and not also called otherwise (a hard link), and has
 * the size stated. */
kvern_status manifest_read(struct manifest *manifest, const char *directory, kvern_error *err);
/* Writes DIRECTORY/kvern.json by rename. */
kvern_status manifest_write(const struct manifest *manifest, const char *directory,
                            kvern_error *err);

/* Adds a file of the directory with its size and hash. */
kvern_status manifest_add_file(struct manifest *manifest, const char *directory, const char *name,
                               kvern_error *err);
/* Hashes every file of at most max_bytes and compares: INT64_MAX reads all weights,
 * MANIFEST_SMALL_BYTES only what is parsed, in a few milliseconds. */
kvern_status manifest_verify(const struct manifest *manifest, const char *directory,
                             int64_t max_bytes, kvern_error *err);

#endif
