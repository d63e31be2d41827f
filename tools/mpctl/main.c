/* SPDX-License-Identifier: MIT */
/*
 * mpctl: look at arenas while they are used.
 *
 * What lives, who takes part, how deep queues are, who holds and who waits for which lock, which
 * processes wait for each other, what the workers of a pool do. It takes no part in any of it: it
 * only reads, stops nobody, and works on processes that are stopped, hang, or are being killed.
 *
 * mpctl doctor is about the machine instead, and tries what it has.
 *
 * The help and the parsing are made from the two tables below. Exit status: 0 all well, 1 it
 * failed, or there are deadlocks, or libmp does not work here, 2 wrong usage, 3 there is no such
 * arena.
 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/macro.h"
#include "mpctl.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

/* ---- verbs ---- */

struct verb {
    const char *name;
    const char *argument;        /* "ARENA", "[ARENA]" where it may be left out; "": takes none */
    const struct lister *lister; /* NULL: show */
    const char *help;
};

static const struct verb verbs[] = {
    {"list", "[ARENA]", &list_lister, "the arenas there are (also without a verb)"},
    {"show", "ARENA", NULL, "all about one: who takes part, objects, memory, waits"},
    {"pools", "[ARENA]", &pools_lister, "pools: workers, and what they have to do"},
    {"queues", "[ARENA]", &queues_lister, "queues: depth, and who waits at which end"},
    {"locks", "[ARENA]", &locks_lister, "locks, semaphores ...: who holds and who waits"},
    {"deadlocks", "[ARENA]", &deadlocks_lister, "who waits for each other, in all arenas"},
    {"doctor", "", &doctor_lister, "what works on this machine, and what falls back"},
};

/* ---- options ---- */

enum { OPTION_JSON = 256, OPTION_NO_LEGEND, OPTION_NO_PAGER, OPTION_HELP, OPTION_VERSION };

struct option_row {
    int value; /* a letter, or one of the above where there is no short form */
    const char *name;
    const char *argument; /* NULL: takes none */
    const char *help;
};

static const struct option_row options[] = {
    {OPTION_JSON, "json", "MODE", "short, pretty, off; or help: list the modes"},
    {'j', NULL, NULL, "--json=pretty on a terminal, else --json=short"},
    {'o', "output", "COLUMNS", "print these columns, by their JSON names"},
    {OPTION_NO_LEGEND, "no-legend", NULL, "no headings and no count"},
    {'l', "full", NULL, "do not cut cells to the width of the terminal"},
    {'q', "quiet", NULL, "no notes on what could not be looked at"},
    {OPTION_NO_PAGER, "no-pager", NULL, "accepted; there is no pager"},
    {'h', "help", NULL, "print this"},
    {OPTION_VERSION, "version", NULL, "print the version"},
};

static void print_help(void)
{
    char left[40];

    puts("mpctl [OPTION...] [VERB [ARENA]]\n"
         "\n"
         "Looks at the arenas of libmp while they are used. It only reads.\n"
         "\n"
         "Verbs:");
    for (size_t i = 0; i < MP_ARRAY_SIZE(verbs); i++) {
        snprintf(left, sizeof left, "%s %s", verbs[i].name, verbs[i].argument);
        printf("  %-22s%s\n", left, verbs[i].help);
    }
    puts("\nOptions:");
    for (size_t i = 0; i < MP_ARRAY_SIZE(options); i++) {
        const struct option_row *o = &options[i];
        char letter[5] = "   ";

        if (o->value < OPTION_JSON)
            snprintf(letter, sizeof letter, "-%c%s", o->value, o->name ? "," : "");
        snprintf(left, sizeof left, "%-3s %s%s%s%s", letter, o->name ? "--" : "",
                 o->name ? o->name : "", o->argument ? "=" : "", o->argument ? o->argument : "");
        printf("  %-22s%s\n", left, o->help);
    }
    puts("\n"
         "ARENA is a name, an inode, or NAME@INODE. Exit status: 0 all well, 1 it failed\n"
         "(deadlocks: or there are some; doctor: or libmp does not work here), 2 wrong\n"
         "usage, 3 no such arena.");
}

/* Where getopt_long() wants them. */
static void fill_getopt(struct option longs[static MP_ARRAY_SIZE(options) + 1],
                        char shorts[static 2 * MP_ARRAY_SIZE(options) + 2])
{
    size_t at = 0;

    *shorts++ = ':'; /* tell a missing argument from an unknown option, and print nothing */
    for (size_t i = 0; i < MP_ARRAY_SIZE(options); i++) {
        const struct option_row *o = &options[i];

        if (o->name)
            longs[at++] = (struct option){o->name, o->argument ? required_argument : no_argument,
                                          NULL, o->value};
        if (o->value < OPTION_JSON) {
            *shorts++ = (char)o->value;
            if (o->argument)
                *shorts++ = ':';
        }
    }
    longs[at] = (struct option){0};
    *shorts = '\0';
}

static int usage(const char *what, const char *word)
{
    char escaped[128];

    text_escape(escaped, sizeof escaped, word, strlen(word));
    complain("%s \"%s\", see --help", what, escaped);
    return EXIT_USAGE;
}

#define GO_ON (-1) /* no exit status yet */

static int set_json(struct ctl *ctl, const char *mode)
{
    if (strcmp(mode, "help") == 0) {
        puts("short\npretty\noff");
        return ctl_printed(0);
    }
    if (strcmp(mode, "short") == 0)
        ctl->json = JSON_SHORT;
    else if (strcmp(mode, "pretty") == 0)
        ctl->json = JSON_PRETTY;
    else if (strcmp(mode, "off") == 0)
        ctl->json = JSON_OFF;
    else
        return usage("no JSON mode", mode);
    return GO_ON;
}

static int set_option(struct ctl *ctl, int option)
{
    switch (option) {
    case OPTION_JSON:
        return set_json(ctl, optarg);
    case 'j':
        ctl->json = isatty(STDOUT_FILENO) ? JSON_PRETTY : JSON_SHORT;
        break;
    case 'o':
        ctl->output = optarg;
        break;
    case OPTION_NO_LEGEND:
        ctl->style.legend = false;
        break;
    case 'l':
        ctl->style.full = true;
        break;
    case 'q':
        ctl->quiet = true;
        break;
    case 'h':
        print_help();
        return ctl_printed(0);
    case OPTION_VERSION:
        puts("mpctl (libmp) " VERSION);
        return ctl_printed(0);
    }
    return GO_ON;
}

/* What getopt_long() stumbled over: a word, or, as they may stand together in one, a letter. */
static const char *stumbled_over(const char *word, char letter[static 2])
{
    letter[0] = optopt > 0 && optopt < OPTION_JSON ? (char)optopt : '\0';
    letter[1] = '\0';
    /* A letter that we know: it is a long option that was given an argument and takes none. */
    for (size_t i = 0; i < MP_ARRAY_SIZE(options); i++)
        if (options[i].value == letter[0])
            return word;
    return letter[0] ? letter : word;
}

static int parse(struct ctl *ctl, int argc, char **argv)
{
    struct option longs[MP_ARRAY_SIZE(options) + 1];
    char shorts[2 * MP_ARRAY_SIZE(options) + 2], letter[2];
    int option, status = GO_ON;

    fill_getopt(longs, shorts);
    while (status == GO_ON && (option = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (option == ':')
            status = usage("no argument after", argv[optind - 1]);
        else if (option == '?')
            status = usage("no option", stumbled_over(argv[optind - 1], letter));
        else
            status = set_option(ctl, option);
    }
    return status;
}

/* ---- the rest of the line ---- */

static int run(struct ctl *ctl, char **words)
{
    const struct verb *verb = &verbs[0];

    if (words[0]) {
        while (verb < verbs + MP_ARRAY_SIZE(verbs) && strcmp(verb->name, words[0]) != 0)
            verb++;
        if (verb == verbs + MP_ARRAY_SIZE(verbs))
            return usage("no verb", words[0]);
        words++;
    }
    if (words[0] && !verb->argument[0])
        return usage("one word too many:", words[0]);
    if (!words[0] && verb->argument[0] == 'A')
        return usage("no ARENA after", verb->name);
    if (words[0] && words[1])
        return usage("one word too many:", words[1]);
    return verb->lister ? ctl_list(ctl, verb->lister, words[0]) : ctl_show(ctl, words[0]);
}

static bool wants_color(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && !(no_color && no_color[0]) && term && strcmp(term, "dumb") != 0;
}

static void ctl_deinit(struct ctl *ctl)
{
    findings_deinit(&ctl->findings);
}

int main(int argc, char **argv)
{
    _cleanup_(ctl_deinit) struct ctl ctl = {
        .style = {.legend = true, .color = wants_color(), .full = !isatty(STDOUT_FILENO)},
    };
    int status = parse(&ctl, argc, argv);

    return status == GO_ON ? run(&ctl, argv + optind) : status;
}
