/* SPDX-License-Identifier: Apache-2.0
 *
 * An .onnx file in memory: parsed, every value looked at, and then read as an export, whose weights
 * are packed. Whatever was accepted must be readable to its last byte.
 */
#include "convert/checkpoint.h"
#include "convert/decoder_plan.h"
#include "convert/gqa_export.h"
#include "convert/onnx_model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at(const struct onnx_graph *graph, unsigned *sum)
{
    for (size_t i = 0; i < graph->n_tensors; i++) {
        const struct onnx_tensor *tensor = &graph->tensors[i];

        for (size_t j = 0; tensor->data && j < tensor->n_bytes; j++)
            *sum += tensor->data[j];
    }
    for (size_t i = 0; i < graph->n_nodes; i++) {
        const struct onnx_graph_node *node = &graph->nodes[i];

        for (size_t j = 0; j < node->n_outputs; j++) {
            if (node->outputs[j] &&
                (node->outputs[j]->node != node ||
                 onnx_graph_find(graph, node->outputs[j]->name) != node->outputs[j]))
                abort();
        }
        for (size_t j = 0; j < node->n_inputs; j++)
            *sum += node->inputs[j] && node->inputs[j]->n_readers > 0;
        for (size_t j = 0; j < node->n_attributes; j++) {
            if (node->attributes[j].graph)
                look_at(node->attributes[j].graph, sum);
        }
    }
}

/* Packs every matrix of a plan tile by tile, as a conversion would. */
static void pack_all(const struct pack_plan *plan)
{
    void *tile = malloc(plan->tile_bytes);
    uint16_t *scales = malloc(plan->tile_scales * sizeof *scales + 1);
    uint16_t *mins = malloc(plan->tile_scales * sizeof *mins + 1);

    if (!tile || !scales || !mins)
        abort();
    for (size_t i = 0; i < plan->n_tiles; i++)
        pack_write_tile(plan, i, tile, scales, mins, NULL);
    free(tile);
    free(scales);
    free(mins);
}

static void convert(struct checkpoint *checkpoint)
{
    struct decoder_plan plan;

    if (decoder_plan_make(&plan, checkpoint, WEIGHTS_KEEP, WEIGHTS_KEEP, NULL) != KVERN_OK)
        return;
    pack_all(&plan.embedding);
    for (size_t i = 0; i < checkpoint->config.n_layers; i++) {
        pack_all(&plan.layers[i].qkv.weight);
        pack_all(&plan.layers[i].o.weight);
        pack_all(&plan.layers[i].gate_up.weight);
        pack_all(&plan.layers[i].down.weight);
    }
    decoder_plan_clear(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint checkpoint = {.format = "onnx"};
    const struct gqa_texts texts = {0};
    volatile unsigned seen;
    unsigned sum = 0;
    kvern_error err = {0};

    checkpoint.onnx = calloc(1, sizeof *checkpoint.onnx);
    if (!checkpoint.onnx)
        abort();
    if (onnx_model_parse(checkpoint.onnx, data, size, &err) == KVERN_OK) {
        look_at(&checkpoint.onnx->graph, &sum);
        if (gqa_export_read(&checkpoint, &texts, &err) == KVERN_OK)
            convert(&checkpoint);
        else if (!*err.message)
            abort();
    } else if (!*err.message) {
        abort();
    }
    seen = sum;
    (void)seen;
    checkpoint_close(&checkpoint);
    return 0;
}
