/* SPDX-License-Identifier: Apache-2.0 */
#include "system/support_hub.h"

#include "test.h"

#include "base/buffer.h"
#include "base/file.h"
#include "system/support_files.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_REQUEST_BYTES = 8192 };

struct server {
    const char *directory;
    enum hub_fault fault;
    int port;
    int n_drops;
    struct hub_record *record;
};

static void send_all(int connection, const void *bytes, size_t n_bytes)
{
    const char *at = bytes;

    while (n_bytes > 0) {
        ssize_t n = send(connection, at, n_bytes, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        at += n;
        n_bytes -= (size_t)n;
    }
}

static void answer(int connection, const char *status, const char *headers, const void *body,
                   size_t n_bytes, size_t n_sent)
{
    struct buffer head = {0};

    buffer_add_format(&head, "HTTP/1.1 %s\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                      status, headers, n_bytes);
    send_all(connection, head.data, head.n_bytes);
    send_all(connection, body, n_sent);
    buffer_clear(&head);
}

static void add_list_entry(const struct server *server, struct buffer *list, const char *name)
{
    char *path = path_join(server->directory, name);
    struct buffer whole = read_whole(path);
    char hex[65];

    assert_int_equal(file_sha256(path, hex, NULL), KVERN_OK);
    if (server->fault == HUB_WRONG_HASH)
        hex[0] = hex[0] == '0' ? '1' : '0';
    buffer_add_format(list, "%s{\"rfilename\":\"%s\",\"size\":%zu,\"lfs\":{\"sha256\":\"%s\"}}",
                      list->data[list->n_bytes - 1] == '[' ? "" : ",", name,
                      whole.n_bytes + (server->fault == HUB_WRONG_SIZE), hex);
    buffer_clear(&whole);
    free(path);
}

/* The one name with a '/' that a pull may ask for. */
static const char nested_name[] = "1_Pooling/config.json";

static void answer_list(const struct server *server, int connection)
{
    struct buffer list = {0};
    char *names = list_directory(server->directory);

    buffer_add_string(&list, "{\"siblings\":[");
    for (char *name = strtok(names, "\n"); name; name = strtok(NULL, "\n"))
        add_list_entry(server, &list, strcmp(name, "1_Pooling") ? name : nested_name);
    if (server->fault == HUB_ODD_NAMES)
        buffer_add_string(&list, ",{\"rfilename\":\"../model.safetensors\",\"size\":3},"
                                 "{\"rfilename\":\"/etc/model.safetensors\",\"size\":3},"
                                 "{\"rfilename\":\"onnx/model.safetensors\",\"size\":3},"
                                 "{\"rfilename\":\"..\",\"size\":3},{\"rfilename\":7},{}");
    buffer_add_string(&list, "]}");
    if (server->fault == HUB_NOT_FOUND)
        answer(connection, "404 Not Found", "", "no", 2, 2);
    else if (server->fault == HUB_FORBIDDEN)
        answer(connection, "401 Unauthorized", "", "no", 2, 2);
    else if (server->fault == HUB_NOT_JSON)
        answer(connection, "200 OK", "", "<html>", 6, 6);
    else if (server->fault == HUB_WRONG_LIST)
        answer(connection, "200 OK", "", "{\"siblings\":{}}", 15, 15);
    else
        answer(connection, "200 OK", "", list.data, list.n_bytes, list.n_bytes);
    free(names);
    buffer_clear(&list);
}

static void answer_file(struct server *server, int connection, const char *name, size_t offset)
{
    char *path = path_join(server->directory, name);
    struct buffer whole = {0};
    char range[128] = "";
    size_t n_sent;

    if ((strchr(name, '/') && strcmp(name, nested_name)) || !file_exists(path)) {
        server->record->was_asked_oddly = true;
        answer(connection, "404 Not Found", "", "no", 2, 2);
        free(path);
        return;
    }
    whole = read_whole(path);
    if (server->fault == HUB_IGNORES_RANGE || offset > whole.n_bytes)
        offset = 0;
    if (offset > 0)
        snprintf(range, sizeof range, "Content-Range: bytes %zu-%zu/%zu\r\n", offset,
                 whole.n_bytes - 1, whole.n_bytes);
    n_sent = whole.n_bytes - offset;
    if (server->fault == HUB_DROPS && strstr(name, ".safetensors") && server->n_drops++ == 0)
        n_sent /= 2;
    server->record->n_files++;
    answer(connection, offset > 0 ? "206 Partial Content" : "200 OK", range, whole.data + offset,
           whole.n_bytes - offset, n_sent);
    buffer_clear(&whole);
    free(path);
}

static void serve(struct server *server, int connection)
{
    static const char files[] = "GET /owner/tiny/resolve/main/";
    char request[MAX_REQUEST_BYTES + 1];
    size_t n = 0;
    char *range;
    char *name_end;
    size_t offset = 0;
    bool is_foreign;
    bool has_token;

    while (n < MAX_REQUEST_BYTES) {
        ssize_t n_read = recv(connection, request + n, MAX_REQUEST_BYTES - n, 0);

        if (n_read <= 0)
            return;
        n += (size_t)n_read;
        request[n] = '\0';
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    is_foreign = strstr(request, "Host: localhost") != NULL;
    has_token = strstr(request, "secret-token") != NULL;
    server->record->n_requests++;
    server->record->has_token |= has_token && !is_foreign;
    server->record->has_foreign_token |= has_token && is_foreign;
    range = strstr(request, "Range: bytes=");
    if (range)
        offset = strtoull(range + strlen("Range: bytes="), NULL, 10);
    if (range)
        server->record->last_offset = (int64_t)offset;
    if (!strncmp(request, "GET /api/models/owner/tiny/revision/main?blobs=true ", 51)) {
        answer_list(server, connection);
        return;
    }
    name_end = strstr(request, " HTTP/");
    if (strncmp(request, files, strlen(files)) != 0 || !name_end) {
        answer(connection, "404 Not Found", "", "no", 2, 2);
        return;
    }
    *name_end = '\0';
    if (server->fault == HUB_REDIRECTS && !is_foreign) {
        char location[512];

        snprintf(location, sizeof location, "Location: http://localhost:%d%.300s\r\n", server->port,
                 request + 4);
        answer(connection, "302 Found", location, "", 0, 0);
        return;
    }
    answer_file(server, connection, request + strlen(files), offset);
}

void test_hub_start(struct test_hub *hub, const char *directory, enum hub_fault fault)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t n_address = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct server server = {.directory = directory, .fault = fault};

    /* "localhost" is another host than "127.0.0.1" to the client, and no other machine */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n_address), 0);
    hub->port = ntohs(address.sin_port);
    hub->record =
        mmap(NULL, sizeof *hub->record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(hub->record != MAP_FAILED);
    server.port = hub->port;
    server.record = hub->record;
    hub->child = fork();
    assert_true(hub->child >= 0);
    if (hub->child > 0) {
        close(listener);
        return;
    }
    alarm(300); /* never outlives its test for long */
    for (;;) {
        int connection = accept(listener, NULL, NULL);

        if (connection < 0)
            _exit(1);
        serve(&server, connection);
        close(connection);
    }
}

void test_hub_stop(struct test_hub *hub)
{
    kill(hub->child, SIGKILL);
    waitpid(hub->child, NULL, 0);
    munmap(hub->record, sizeof *hub->record);
}
