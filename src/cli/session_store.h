/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions between commands, as files of the cache directory's sessions/: NAME.session is the
 * library's own file (none: the session is empty), NAME.json says which model it is of and how it
 * was made, NAME.lock keeps two commands from changing it at once. All are written by rename.
 */
#ifndef KVERN_CLI_SESSION_STORE_H
#define KVERN_CLI_SESSION_STORE_H

#include "kvern.h"

#include <jansson.h>

enum { SESSION_NAME_MAX = 64, SESSION_TIME_BYTES = 24, SESSION_WAIT_MS = 30000 };

/* What NAME.json holds. */
struct session_record {
    char *name;    /* owned, as all strings here */
    char *model;   /* absolute path of a directory or .onnx file */
    char *preset;  /* NULL: none */
    char *kv_type; /* NULL: the default */
    int32_t context;
    kvern_session_options options;
    char created[SESSION_TIME_BYTES]; /* 2026-11-21T11:30:00Z */
    char updated[SESSION_TIME_BYTES];
    size_t n_tokens; /* of its context when it was last saved */
    json_t *chat;    /* session_chat.h's, as it was read; NULL: none */
};

/* 1 to 64 of A-Z a-z 0-9 . _ -, the first not a dot: nothing that could leave the directory. */
kvern_status session_name_check(const char *name, kvern_error *err);
/* The path of one of a session's files, malloc'ed; `suffix` is ".session", ".json" or ".lock". */
char *session_path(const char *name, const char *suffix);
bool session_exists(const char *name);
/* Bytes of NAME.session; 0 without one. */
int64_t session_bytes(const char *name);
/* The names, sorted; freed with kvern_strings_free. */
kvern_status sessions_list(char ***names, size_t *n_names, kvern_error *err);

struct session_lock {
    char *name; /* owned; NULL: nothing is held */
    int fd;
    bool is_held;
};

/* Waits for another command on the session, says so, and gives up after `wait_ms` (KVERN_BUSY).
 * What a killed command left half written is removed. */
kvern_status session_lock_take(struct session_lock *lock, const char *name, int wait_ms,
                               kvern_error *err);
/* Fine on a zeroed one. The lock's file goes with its session. */
void session_lock_release(struct session_lock *lock);

/* A new record of now; `model` is made absolute. */
void session_record_init(struct session_record *record, const char *name, const char *model);
/* KVERN_NOT_FOUND: there is none; KVERN_FORMAT: its file is damaged. */
kvern_status session_record_read(struct session_record *record, const char *name, kvern_error *err);
/* Writes it, with `updated` now. */
kvern_status session_record_write(struct session_record *record, kvern_error *err);
/* What NAME.json holds, without the name and the conversation; NULL if memory ran out. */
json_t *session_record_json(const struct session_record *record);
/* How the model is shown: the last part of its path, of an .onnx file the last two; of `record`. */
const char *session_model_name(const struct session_record *record);
void session_record_clear(struct session_record *record);

/* Under the lock: its state goes, and its record stays. Fine if there is none. */
kvern_status session_remove_state(const char *name, kvern_error *err);
/* Under the lock: all of it goes. */
kvern_status session_remove(const char *name, kvern_error *err);

#endif
