/* SPDX-License-Identifier: Apache-2.0
 *
 * struct progress: redraws at most ten times a second, so that showing work never slows it.
 */
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* The bar gives way to what stands after it. */
enum { BAR_WIDTH = 24, MIN_BAR_WIDTH = 6, LINE_BYTES = 256 };

static const double REDRAW_SECONDS = 0.1;
static const double PLAIN_SECONDS = 5.0, IDLE_SECONDS = 60.0;

double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void format_amount(char *text, size_t n_bytes, double amount, enum progress_unit unit)
{
    static const char *const byte_units[] = {"B", "kB", "MB", "GB", "TB"};
    static const char *const count_units[] = {"", "k", "M", "G", "T"};
    int i = 0;

    while (amount >= 1000 && i < 4) {
        amount /= 1000;
        i++;
    }
    snprintf(text, n_bytes, i == 0 ? "%.0f%s%s" : "%.1f%s%s", amount,
             unit == PROGRESS_BYTES ? " " : "",
             unit == PROGRESS_BYTES ? byte_units[i] : count_units[i]);
}

void progress_begin(struct progress *progress, enum progress_unit unit, bool is_quiet)
{
    *progress = (struct progress){
        .unit = unit,
        .is_terminal = isatty(STDERR_FILENO),
        .is_quiet = is_quiet,
        .started = seconds_now(),
    };
    progress->drawn = progress->started;
    progress->drawn_done = -1;
}

static void format_time_left(char *text, size_t n_bytes, double seconds)
{
    seconds = fmin(fmax(seconds, 0), 359999); /* 99:59 h */
    if (seconds < 60)
        snprintf(text, n_bytes, "%.0f s left", seconds);
    else if (seconds < 3600)
        snprintf(text, n_bytes, "%d:%02d left", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(text, n_bytes, "%d:%02d h left", (int)seconds / 3600, (int)seconds / 60 % 60);
}

/* Slow work shows that it moves: "0.4", not "0". */
static void format_rate(char *text, size_t n_bytes, double rate, enum progress_unit unit)
{
    if (unit == PROGRESS_BYTES || rate <= 0 || rate >= 0.95)
        format_amount(text, n_bytes, rate, unit);
    else if (rate < 0.05)
        snprintf(text, n_bytes, "<0.1");
    else
        snprintf(text, n_bytes, "%.1f", rate);
}

static int terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
        return size.ws_col;
    return 80;
}

struct shown {
    const char *what, *note;
    int64_t done, total;
    double rate;
};

/* Returns its length. */
static size_t format_line(const struct progress *progress, const struct shown *shown, int bar_width,
                          char line[LINE_BYTES])
{
    static const char *const unit_names[] = {"", " tokens", ""};
    const char *unit = unit_names[progress->unit];
    const char *note = shown->note ? shown->note : "";
    double share = shown->total > 0 ? fmin((double)shown->done / (double)shown->total, 1) : 0;
    char bar[BAR_WIDTH + 1];
    char amount[32];
    char left[32] = "";

    format_rate(amount, sizeof amount, shown->rate, progress->unit);
    if (shown->total > 0 && shown->rate > 0 && shown->done > 0)
        format_time_left(left, sizeof left, (double)(shown->total - shown->done) / shown->rate);
    for (int i = 0; i < bar_width; i++)
        bar[i] = i < (int)(share * bar_width) ? '#' : '.';
    bar[bar_width] = '\0';
    if (shown->total > 0)
        snprintf(line, LINE_BYTES, "%s [%s] %3.0f %%  %s%s/s  %s  %s", shown->what, bar,
                 100 * share, amount, unit, left, note);
    else if (shown->done == 0)
        snprintf(line, LINE_BYTES, "%s  %s", shown->what, note);
    else
        snprintf(line, LINE_BYTES, "%s  %s%s/s  %s", shown->what, amount, unit, note);
    size_t n_line = strlen(line);
    while (n_line > 0 && line[n_line - 1] == ' ')
        line[--n_line] = '\0';
    return n_line;
}

static bool is_due(const struct progress *progress, double now, int64_t done)
{
    double since = now - progress->drawn;

    if (progress->is_terminal)
        return since >= REDRAW_SECONDS;
    return since >= (done == progress->drawn_done ? IDLE_SECONDS : PLAIN_SECONDS);
}

void progress_show(struct progress *progress, const char *what, int64_t done, int64_t total,
                   const char *note)
{
    double now = seconds_now();
    double elapsed = now - progress->started;
    double worked = (double)(done - progress->n_at_once);
    const struct shown shown = {.what = what,
                                .note = note,
                                .done = done,
                                .total = total,
                                .rate = elapsed > 0.05 ? worked / elapsed : 0};
    char line[LINE_BYTES];

    if (progress->is_quiet || !is_due(progress, now, done))
        return;
    progress->drawn = now;
    progress->drawn_done = done;
    progress->has_drawn = true;
    int n_over = (int)format_line(progress, &shown, BAR_WIDTH, line) - (terminal_width() - 1);
    if (progress->is_terminal && n_over > 0) {
        int bar_width = BAR_WIDTH - n_over;

        format_line(progress, &shown, bar_width > MIN_BAR_WIDTH ? bar_width : MIN_BAR_WIDTH, line);
    }
    if (progress->is_terminal)
        fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, line);
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->has_drawn && progress->is_terminal) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress->has_drawn = false;
}
