/* SPDX-License-Identifier: Apache-2.0
 *
 * The config of a GroupQueryAttention export: what its graph says, and what the files beside it
 * (config.json, or onnxruntime-genai's genai_config.json) say that no graph can, compared where
 * both speak. Where no file tells the rotary embedding, it is read off the graph's tables.
 */
#ifndef KVERN_CONVERT_GQA_CONFIG_H
#define KVERN_CONVERT_GQA_CONFIG_H

#include "convert/gqa_graph.h"
#include "kvern.h"
#include "model/config.h"

/* The texts of the files that are there; NULL for the others. */
struct gqa_texts {
    const char *config;
    const char *generation;
    const char *genai;
};

/* Ends with config_check(). An error over layers, heads, sizes or rotary embedding has both
 * values. */
kvern_status gqa_config_make(struct model_config *config, const struct gqa_graph *graph,
                             const struct gqa_texts *texts, kvern_error *err);

#endif
