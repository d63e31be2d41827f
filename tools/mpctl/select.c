/* SPDX-License-Identifier: MIT */
/* Which arenas to look at: all, or the one that a word of the command line names. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "mpctl.h"

#define NAMED_MAX 8 /* in a message about a name that many have */

/* One fd is kept for each arena. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int ctl_find(struct ctl *ctl)
{
    int r;

    raise_limit();
    r = find_arenas(&ctl->findings);
    if (r < 0) {
        complain("cannot look through /proc: %s", strerror(-r));
        return EXIT_FAILED;
    }
    if (ctl->findings.unreadable)
        note(ctl, "%zu process%s may not be looked into: what only they hold is not shown",
             ctl->findings.unreadable, ctl->findings.unreadable == 1 ? "" : "es");
    return EXIT_OK;
}

int ctl_open(const struct ctl *ctl, const struct found *found, bool asked, struct view **ret_view)
{
    const struct holder *h = found->holders;
    const char *why;
    char message[512];
    int r = view_open(found, ret_view, &why);

    if (r == 0)
        return 0;
    if (why)
        snprintf(message, sizeof message, "not an arena: %s", why);
    else
        snprintf(message, sizeof message, "cannot be read: %s", strerror(-r));
    if (asked)
        complain("%s@%ju: %s", found->name, (uintmax_t)found->inode, message);
    else if (h)
        note(ctl, "%s@%ju (in process %d, %s): %s", found->name, (uintmax_t)found->inode,
             (int)h->pid, h->command, message);
    return r;
}

/* ---- one by its name ---- */

enum match { NO_MATCH, MATCH_INODE, MATCH_BOTH, MATCH_NAME };

/* A name may be all digits, or have an @ in it: the whole word as a name comes first. */
static enum match match(const struct found *f, const char *word)
{
    const char *at = strrchr(word, '@');
    uint64_t inode;

    if (strcmp(f->name, word) == 0)
        return MATCH_NAME;
    if (at && text_number(at + 1, &inode) == 0 && inode == f->inode &&
        strlen(f->name) == (size_t)(at - word) && strncmp(f->name, word, strlen(f->name)) == 0)
        return MATCH_BOTH;
    if (text_number(word, &inode) == 0 && inode == f->inode)
        return MATCH_INODE;
    return NO_MATCH;
}

/* As it is, or as it would be listed. */
static enum match match_either(const struct found *f, const char *word)
{
    char escaped[TEXT_NAME_MAX];
    enum match as_it_is = match(f, word), as_listed;

    text_escape(escaped, sizeof escaped, word, strlen(word));
    as_listed = match(f, escaped);
    return as_it_is > as_listed ? as_it_is : as_listed;
}

static bool is_arena(const struct found *found)
{
    _cleanup_view_ struct view *view = NULL;
    const char *why;

    return view_open(found, &view, &why) == 0;
}

static void complain_many(const struct findings *f, const char *name, unsigned n)
{
    char which[NAMED_MAX * 24] = "";
    size_t at = 0;
    unsigned named = 0;

    for (size_t i = 0; i < f->n && named < NAMED_MAX; i++)
        if (strcmp(f->found[i].name, name) == 0)
            at += (size_t)snprintf(which + at, sizeof which - at, "%s%ju", named++ ? ", " : "",
                                   (uintmax_t)f->found[i].inode);
    complain("%u arenas are named \"%s\": say %s@INODE, of %s%s", n, name, name, which,
             named < n ? " ..." : "");
}

int ctl_select(struct ctl *ctl, const char *word, const struct found **ret_found)
{
    const struct findings *f = &ctl->findings;
    const struct found *best = NULL;
    enum match best_match = NO_MATCH;
    char escaped[TEXT_NAME_MAX];
    unsigned n = 0, arenas = 0;

    text_escape(escaped, sizeof escaped, word, strlen(word));
    for (size_t i = 0; i < f->n; i++) {
        enum match m = match_either(&f->found[i], word);

        if (m == NO_MATCH || m < best_match)
            continue;
        n = m > best_match ? 1 : n + 1;
        best_match = m;
        best = &f->found[i];
    }
    if (n == 0) {
        complain("no arena \"%s\"", escaped);
        return EXIT_NOT_FOUND;
    }
    /* Anybody can give a memfd the name of an arena: that must not hide it. */
    for (size_t i = 0; i < f->n && n > 1; i++)
        if (match_either(&f->found[i], word) == best_match && is_arena(&f->found[i])) {
            best = &f->found[i];
            arenas++;
        }
    if (arenas > 1) {
        complain_many(f, best->name, arenas);
        return EXIT_FAILED;
    }
    *ret_found = best;
    return EXIT_OK;
}
