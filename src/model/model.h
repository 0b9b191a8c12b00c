/* SPDX-License-Identifier: Apache-2.0
 *
 * struct kvern_model: a model directory opened for use. Immutable once open, so many threads and
 * engines may share it. Weights are not read here.
 */
#ifndef KVERN_MODEL_MODEL_H
#define KVERN_MODEL_MODEL_H

#include "kvern.h"
#include "model/export_graph.h"
#include "model/export_seq2seq.h"
#include "model/manifest.h"
#include "text/jinja.h"
#include "text/tokenizer.h"

struct kvern_model {
    char *directory; /* owned */
    char *graph;     /* path of the .onnx file; owned */
    struct manifest manifest;
    struct export_graph export;    /* contracts "cached" and, where is_export, "encoder" */
    struct export_seq2seq seq2seq; /* of an encoder-decoder's export, whose decoder is `export` */
    struct export_files files;     /* of an export, beside its graph */
    bool is_export;                /* somebody else's graph: no kvern.json, no operator of ours */
    struct tokenizer *tokenizer;   /* owned; NULL: the directory has none */
    struct jinja_template *chat_template; /* owned; NULL: the directory has none */
    char *bos;                            /* owned: the bos token's text; "" if there is none */
    char *eos;                            /* owned: the first end token's */
    char *pad;                            /* owned */
};

/* It embeds whole texts and generates nothing. */
bool model_is_encoder(const kvern_model *model);
/* Whether it encodes a source and then continues an answer. */
bool model_is_seq2seq(const kvern_model *model);
/* Its own pooling is logits512: that is stated, or nothing is and logits are all that it gives. */
bool model_pools_logits(const kvern_model *model);

/* The directory a name stands for: itself if it holds a manifest, else a model of that name in the
 * cache. An export's .onnx file or folder stands for itself, too. malloc'ed; KVERN_NOT_FOUND says
 * how to get one. */
kvern_status model_find(const char *name_or_directory, char **directory, kvern_error *err);

#endif
