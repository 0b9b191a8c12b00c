/* SPDX-License-Identifier: Apache-2.0
 *
 * struct task and its list.
 */
#include "summary/task.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void task_renew(struct task *task)
{
    kvern_request_free(task->request);
    task->request = NULL;
    free(task->instruction);
    task->instruction = NULL;
    buffer_clear(&task->answer);
}

void task_free(struct task *task)
{
    if (!task)
        return;
    task_renew(task);
    clean_clear(&task->half);
    free(task->chunk.name);
    free(task->text);
    free(task);
}

struct ask task_ask(const struct task *task)
{
    return (struct ask){
        .kind = task->kind,
        .path = task->directory ? task->directory->path : task->file->path,
        .language = task->language,
        .name = task->chunk.name,
        .text = task->text,
        .n_bytes = task->n_bytes,
    };
}

kvern_status task_set_key(struct task *task, const uint8_t *fingerprint, const char *options,
                          kvern_error *err)
{
    const struct ask ask = task_ask(task);
    const char *const strings[] = {ask.path, ask.language ? ask.language : "",
                                   ask.name ? ask.name : ""};
    struct summary_source source = {.fingerprint = fingerprint, .options = options};
    struct buffer content = {0};
    char version[32];

    snprintf(version, sizeof version, "%d.%d", ASK_VERSION, CLEAN_VERSION);
    source.prompt_version = version;
    buffer_add_byte(&content, (char)ask.kind);
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        buffer_add(&content, strings[i], strlen(strings[i]) + 1);
    buffer_add(&content, ask.text, ask.n_bytes);
    if (content.has_failed) {
        buffer_clear(&content);
        return fail(err, KVERN_MEMORY, "out of memory for a key of %zu bytes", ask.n_bytes);
    }
    source.content = content.data;
    source.n_content = content.n_bytes;
    summary_cache_key(&source, task->key);
    buffer_clear(&content);
    return KVERN_OK;
}

void task_list_put(struct task_list *list, struct task *task)
{
    task->next = NULL;
    if (list->last)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
    list->n++;
}

struct task *task_list_take(struct task_list *list)
{
    struct task *task = list->first;

    if (!task)
        return NULL;
    list->first = task->next;
    if (!list->first)
        list->last = NULL;
    list->n--;
    task->next = NULL;
    return task;
}
