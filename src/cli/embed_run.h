/* SPDX-License-Identifier: Apache-2.0
 *
 * Embeds any number of texts in slices: what is in memory is one slice, sized so that it takes
 * about a second, for progress and Ctrl-C.
 */
#ifndef KVERN_CLI_EMBED_RUN_H
#define KVERN_CLI_EMBED_RUN_H

#include "cli/progress.h"
#include "cli/texts.h"
#include "kvern.h"

/* Takes one result, in input order: its vector, or embedding->error (text->text is then NULL if it
 * could not even be read). */
typedef kvern_status (*embed_result_fn)(const struct text *text, const kvern_embedding *embedding,
                                        void *data, kvern_error *err);

struct embed_run {
    struct texts texts;
    kvern_embed_options options;
    bool is_quiet;
    embed_result_fn on_result;
    void *data;
    /* results */
    size_t n_done;
    size_t n_failed; /* told on stderr */
    size_t n_cut;    /* because of options.truncate */
    int64_t n_tokens;
};

/* Ends with KVERN_CANCELLED after Ctrl-C, and early with KVERN_OK when nobody reads stdout. */
kvern_status embed_run(struct embed_run *run, kvern_engine *engine, const kvern_model *model,
                       kvern_error *err);

#endif
