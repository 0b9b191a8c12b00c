/* SPDX-License-Identifier: Apache-2.0
 *
 * The kvern command: a table of commands, and nothing else. It uses the public library and base/.
 */
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"pull", cmd_pull, "get a model and make it ready"},
    {"convert", cmd_convert, "turn a GGUF or safetensors checkpoint into a model directory"},
    {"models", cmd_models, "list the models at hand"},
    {"inspect", cmd_inspect, "show what a model directory holds"},
    {"generate", cmd_generate, "answer prompts, one or thousands at once"},
    {"chat", cmd_chat, "talk with a model"},
    {"embed", cmd_embed, "turn texts into vectors; compare and rank them"},
    {"session", cmd_session, "keep a context between commands: append, embed, generate, rewind"},
    {"summarize", cmd_summarize, "explain source trees in a report"},
    {"tokenize", cmd_tokenize, "show a text's tokens"},
    {"bench", cmd_bench, "measure prefill and decode beside the machine's limits"},
    {"eval", cmd_eval, "perplexity of a model on a text"},
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_overview(FILE *stream)
{
    fputs("Usage: kvern COMMAND [ARGUMENTS]\n"
          "Runs small language models on this machine: the same answer every time.\n\nCommands:\n",
          stream);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n'kvern help COMMAND' shows its options and examples.\n\nTo begin:\n"
          "  kvern pull smollm2\n"
          "  kvern generate \"What is a hand mill?\"\n",
          stream);
}

static void print_warning(const char *line, void *data)
{
    (void)data;
    fprintf(stderr, "kvern: %s\n", line);
}

static int run_command(int argc, char **argv)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    return usage_error(NULL, "unknown command '%s'", argv[0]);
}

static int run(int argc, char **argv)
{
    if (argc == 0) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[0], "help") == 0 && argc > 2) /* kvern help session append */
        return run_command(3, (char *[]){argv[1], argv[2], "--help", NULL});
    if (strcmp(argv[0], "help") == 0 && argc > 1)
        return run_command(2, (char *[]){argv[1], "--help", NULL});
    if (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0 ||
        strcmp(argv[0], "-h") == 0) {
        print_overview(stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "version") == 0) {
        printf("kvern %s\n", kvern_version());
        return EXIT_OK;
    }
    return run_command(argc, argv);
}

int main(int argc, char **argv)
{
    kvern_set_log(print_warning, NULL);
    interrupt_watch();
    return output_finish(run(argc > 0 ? argc - 1 : 0, argv + 1));
}
