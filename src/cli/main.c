/* SPDX-License-Identifier: Apache-2.0
 *
 * The kvern command: a table of commands, and nothing else. It uses the public library and base/.
 */
#include "cli/command.h"
#include "cli/interrupt.h"

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
    fputs("\n'kvern COMMAND --help' shows its options and examples.\n\nTo begin:\n"
          "  kvern pull smollm2\n"
          "  kvern generate \"What is a hand mill?\"\n",
          stream);
}

static void print_warning(const char *line, void *data)
{
    (void)data;
    fprintf(stderr, "kvern: %s\n", line);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return 2;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("kvern %s\n", kvern_version());
        return 0;
    }
    kvern_set_log(print_warning, NULL);
    interrupt_watch();
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    }
    return usage_error("unknown command '%s'", argv[1]);
}
