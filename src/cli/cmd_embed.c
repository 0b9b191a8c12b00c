/* SPDX-License-Identifier: Apache-2.0
 *
 * kvern embed: texts to vectors, a matrix of their cosines, or the ones nearest to a query. Results
 * come in input order; a text that fails does so alone.
 */
#include "cli/command.h"
#include "cli/embed_run.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/ranking.h"
#include "cli/session_run.h"
#include "cli/vectors.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_TOP = 10, MAX_TOP = 100000 };

struct embed {
    struct engine_flags engine_flags;
    struct embed_run run;
    struct vector_flags out;
    const char *pooling;
    int64_t dimensions;
    const char *query;
    const char *query_prompt;
    const char *session;
    int64_t top;
    const char *top_named; /* NULL: not on the command line */
    bool has_similarity;
    json_t *more; /* members of every JSON result; NULL: none */
    struct vector_writer writer;
    struct ranking ranking;
    struct similarity similarity;
};

static kvern_status write_vector(const struct text *text, const kvern_embedding *embedding,
                                 void *data, kvern_error *err)
{
    struct embed *embed = data;
    bool has_failed = embedding->error.status != KVERN_OK;
    struct vector_row row = {
        .id = text->id,
        .values = embedding->values,
        .n_values = embedding->n_values,
        .n_tokens = embedding->n_tokens,
        .is_truncated = embedding->n_text_tokens > embedding->n_tokens,
        .error = has_failed ? embedding->error.message : NULL,
        .more = embed->more,
    };

    return vector_writer_put(&embed->writer, &row, err);
}

static kvern_status rank(const struct text *text, const kvern_embedding *embedding, void *data,
                         kvern_error *err)
{
    struct embed *embed = data;

    if (embedding->error.status != KVERN_OK)
        return KVERN_OK;
    return ranking_add(&embed->ranking, text, embedding, err);
}

static kvern_status keep(const struct text *text, const kvern_embedding *embedding, void *data,
                         kvern_error *err)
{
    struct embed *embed = data;

    if (embedding->error.status != KVERN_OK)
        return KVERN_OK;
    return similarity_add(&embed->similarity, text, embedding, err);
}

/* A prefix that the model has under the name "query" is meant for queries; NULL: it has none. */
static const char *own_query_prompt(const kvern_model *model)
{
    const char *name, *text;

    for (size_t i = 0; kvern_model_get_prompt(model, i, &name, &text); i++) {
        if (strcmp(name, "query") == 0)
            return name;
    }
    return NULL;
}

static kvern_status embed_ranked(struct embed *embed, kvern_engine *engine,
                                 const kvern_model *model, kvern_error *err)
{
    kvern_embed_options options = embed->run.options;
    kvern_embedding query = {0};
    kvern_status status;

    options.prompt = embed->query_prompt ? embed->query_prompt : own_query_prompt(model);
    status = kvern_embed(engine, model, &embed->query, NULL, 1, &options, &query, err);
    if (status == KVERN_OK && query.error.status != KVERN_OK)
        status = fail(err, query.error.status, "--query: %s", query.error.message);
    if (status == KVERN_OK)
        status = ranking_init(&embed->ranking, &query, (size_t)embed->top, err);
    embed->run.on_result = rank;
    if (status == KVERN_OK)
        status = embed_run(&embed->run, engine, model, err);
    if (status == KVERN_OK)
        ranking_print(&embed->ranking, embed->out.is_json);
    ranking_clear(&embed->ranking);
    kvern_embedding_clear(&query);
    return status;
}

static kvern_status embed_compared(struct embed *embed, kvern_engine *engine,
                                   const kvern_model *model, kvern_error *err)
{
    embed->run.on_result = keep;
    kvern_status status = embed_run(&embed->run, engine, model, err);

    if (status == KVERN_OK)
        similarity_print(&embed->similarity, embed->out.is_json);
    similarity_clear(&embed->similarity);
    return status;
}

static kvern_status embed_written(struct embed *embed, kvern_engine *engine,
                                  const kvern_model *model, kvern_error *err)
{
    kvern_status status =
        vector_writer_open(&embed->writer, embed->out.resolved, embed->out.path, err);

    embed->run.on_result = write_vector;
    if (status == KVERN_OK)
        status = embed_run(&embed->run, engine, model, err);
    if (status == KVERN_OK)
        status = vector_writer_commit(&embed->writer, err);
    vector_writer_clear(&embed->writer);
    return status;
}

static int embed_texts(struct embed *embed)
{
    kvern_model *model = NULL;
    kvern_engine *engine = NULL;
    kvern_model_info info = {0};
    kvern_error err = {0};
    kvern_status status = open_model(&embed->engine_flags, &model, &err);

    if (status == KVERN_OK) {
        kvern_model_get_info(model, &info);
        status = check_dimensions(model, embed->run.options.pooling, embed->run.options.dimensions,
                                  &err);
    }
    if (status == KVERN_OK) {
        status = open_engine(&embed->engine_flags, model, &engine, &err);
    }
    if (info.has_byte_fallback)
        embed->more = json_pack("{s:s}", "tokenizer", "bytes");
    embed->run.data = embed;
    if (status == KVERN_OK && embed->query)
        status = embed_ranked(embed, engine, model, &err);
    else if (status == KVERN_OK && embed->has_similarity)
        status = embed_compared(embed, engine, model, &err);
    else if (status == KVERN_OK)
        status = embed_written(embed, engine, model, &err);
    if (embed->run.n_cut > 0)
        fprintf(stderr, "kvern: %zu %s over the limit and cut (--truncate)\n", embed->run.n_cut,
                embed->run.n_cut == 1 ? "text was" : "texts were");
    json_decref(embed->more);
    texts_close(&embed->run.texts);
    kvern_engine_close(engine);
    kvern_model_close(model);
    if (status != KVERN_OK)
        return report(&err);
    return embed->run.n_failed > 0 ? EXIT_FAILED : EXIT_OK;
}

/* What cannot go together; `settled` is an option that was given and is a session's own (or NULL).
 * Returns 0 or the exit status. */
static int check(struct embed *embed, const char *settled, const struct command_help *help)
{
    const struct texts *texts = &embed->run.texts;

    if (embed->query && embed->has_similarity)
        return usage_error(help, "--query and --similarity do not go together");
    if ((embed->query || embed->has_similarity) && (embed->out.format || embed->out.path))
        return usage_error(help,
                           "%s prints a table, or JSON with --json: leave out --format and -o",
                           embed->query ? "--query" : "--similarity");
    if (embed->query && !*embed->query)
        return usage_error(help, "--query takes a text that is not empty");
    if (embed->top_named && !embed->query)
        return usage_error(help, "--top needs --query");
    if (embed->query_prompt && !embed->query)
        return usage_error(help, "--query-prompt needs --query");
    if (embed->session && (embed->query || embed->has_similarity))
        return usage_error(help, "--session prints vectors: leave out --query and --similarity");
    if (embed->session && settled)
        return usage_error(help, "a session keeps the --%s it was made with: leave it out",
                           settled);
    if (texts->jsonl && texts->lines && strcmp(texts->jsonl, "-") == 0 &&
        strcmp(texts->lines, "-") == 0)
        return usage_error(help, "--input and --lines cannot both be stdin");
    if (embed->pooling && !kvern_pooling_from_name(embed->pooling, &embed->run.options.pooling))
        return usage_error(help, "--pooling takes model, last, mean, cls or logits512, not '%s'",
                           embed->pooling);
    return 0;
}

static const struct command_help help = {
    .usage = "embed TEXT... | --file FILE | --input FILE | --lines FILE | - [OPTIONS]",
    .summary = "Turns texts into vectors, in input order; compares them, or ranks them by a query.",
    .details =
        "Each TEXT, each --file and each line of --input and --lines is a text of its own. "
        "Without\n"
        "any, the text on stdin is one. A line of --input is a string or {\"id\", \"text\"}. The "
        "same\ntext gives the same vector, bit for bit, whatever runs beside it. A text over the "
        "limit is\nan error, unless --truncate asks for its beginning. Texts that fail do so alone "
        "(exit\nstatus 1). On a terminal the result is a short table, else JSON Lines:\n"
        "{\"id\", \"embedding\", \"tokens\", \"truncated\"}, or {\"id\", \"error\"}.",
    .examples = "  kvern embed \"a hand mill\" \"a stone for grinding\" --similarity\n"
                "  kvern embed --lines sentences.txt -o vectors.npy\n"
                "  kvern embed --input notes.jsonl --query \"how to sharpen a mill\" --top 5\n"
                "  kvern embed --file src/main.c --session work",
};

int cmd_embed(int argc, char **argv)
{
    struct embed embed = {.engine_flags = {.default_model = DEFAULT_EMBED_MODEL},
                          .top = DEFAULT_TOP};
    struct positionals arguments;
    kvern_embed_options_init(&embed.run.options);
    embed.run.options.should_stop = should_stop;
    const struct option options[] = {
        ENGINE_OPTIONS_OF(embed.engine_flags, DEFAULT_EMBED_MODEL),
        {"file", 'f', OPTION_LIST, &embed.run.texts.files, "FILE",
         "a file's text (may be given again)"},
        {"input", 'i', OPTION_STRING, &embed.run.texts.jsonl, "FILE",
         "JSON Lines of texts; - is stdin"},
        {"lines", 'l', OPTION_STRING, &embed.run.texts.lines, "FILE",
         "every line is a text; - is stdin"},
        {"pooling", 0, OPTION_STRING, &embed.pooling, "KIND",
         "last, mean, cls or logits512 (the model's own)"},
        {"normalize", 0, OPTION_SWITCH, &embed.run.options.normalize, NULL,
         "vectors of length 1 (as the model says, else yes; --no-normalize)"},
        {"dimensions", 'd', OPTION_INT, &embed.dimensions, "N",
         "the first N values, normalised after the cut (all)", 0, 1 << 24},
        {"prompt", 0, OPTION_STRING, &embed.run.options.prompt, "NAME",
         "one of the model's prefixes (its default)"},
        {"truncate", 0, OPTION_FLAG, &embed.run.options.truncate, NULL,
         "cut texts over the limit, and say so"},
        {"query", 0, OPTION_STRING, &embed.query, "TEXT", "rank the texts by their cosine to TEXT"},
        {"query-prompt", 0, OPTION_STRING, &embed.query_prompt, "NAME",
         "the query's own prefix (the model's \"query\")"},
        {"top", 0, OPTION_INT, &embed.top, "K", "with --query: the K best (10)", 1, MAX_TOP},
        {"similarity", 0, OPTION_FLAG, &embed.has_similarity, NULL, "the cosines of all with all"},
        {"session", 0, OPTION_STRING, &embed.session, "NAME",
         "append the texts to a session, and print its vectors"},
        VECTOR_OPTIONS(embed.out),
        {"quiet", 'q', OPTION_FLAG, &embed.run.is_quiet, NULL, "no progress"},
        {NULL},
    };
    /* in the environment they are for models that sessions have nothing to do with */
    static const char *const settled_names[] = {
        "model",   "preset",    "context",    "kv-type", "sequences", "step-tokens",
        "pooling", "normalize", "dimensions", "prompt",  "truncate",  NULL};
    char *dash[] = {"-"};
    struct texts *texts = &embed.run.texts;
    const char *settled = options_named(options, argc, argv, settled_names);
    static const char *const top[] = {"top", NULL};
    embed.top_named = options_named(options, argc, argv, top);
    int exit_status = options_parse(options, &help, argc, argv, &arguments);

    if (exit_status >= 0)
        return exit_status;
    texts->arguments = arguments;
    if (arguments.n == 0 && texts->files.n == 0 && !texts->jsonl && !texts->lines) {
        if (isatty(STDIN_FILENO))
            return usage_error(&help, "embed needs a TEXT, a file of texts, or text on stdin");
        texts->arguments = (struct positionals){.items = dash, .n = 1};
    }
    embed.run.options.dimensions = (int32_t)embed.dimensions;
    exit_status = check(&embed, settled, &help);
    if (exit_status == 0)
        exit_status = resolve_format(&embed.out, &help);
    if (exit_status != 0)
        return exit_status;
    if (embed.session)
        return embed_in_session(embed.session, &embed.engine_flags, texts, &embed.out);
    return embed_texts(&embed);
}
