/* SPDX-License-Identifier: MIT */
/* A program that loads the library, and unloads it while a thread that used it still runs. */

#undef NDEBUG
#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>

#include <mp/mp.h>

static void *library;
static pthread_barrier_t barrier;

static void *use(void *unused)
{
    int (*create)(const char *, const struct mp_arena_options *, mp_arena **) =
        (int (*)(const char *, const struct mp_arena_options *, mp_arena **))(uintptr_t)dlsym(
            library, "mp_arena_create");
    mp_arena *(*close)(mp_arena *) =
        (mp_arena * (*)(mp_arena *))(uintptr_t)dlsym(library, "mp_arena_close");
    mp_arena *arena;

    assert(create && close && create("unload", NULL, &arena) == 0);
    close(arena);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    assert(argc == 2);
    library = dlopen(argv[1], RTLD_NOW);
    assert(library);
    assert(pthread_barrier_init(&barrier, NULL, 2) == 0);
    assert(pthread_create(&thread, NULL, use, NULL) == 0);
    pthread_barrier_wait(&barrier);
    assert(dlclose(library) == 0);
    pthread_barrier_wait(&barrier);
    assert(pthread_join(thread, NULL) == 0);
    return 0;
}
