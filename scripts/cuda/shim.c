/* One CUDA library, opened when the program first calls a function of it.

   shims.py compiles this once for each library, beside assembly that it writes: a jump through a slot
   for every function. A slot first leads here, and from then on to the function itself, or, where the
   library or the function is missing, to an answer that says so. Programs linked with these start on
   machines that have no CUDA.

   Set with -D: NAME (a word for symbols), FILES (names of the library's file, first the best), ABSENT
   and MISSING (what functions answer without the library, and without the function in it). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

/* Written by shims.py. A kind is what a function returns: 's' a status, 't' a text, 'z' anything else. */
extern void *JOIN(NAME, _slots)[];
extern const char *const JOIN(NAME, _names)[];
extern const char JOIN(NAME, _kinds)[];

static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static long absent(void) { return ABSENT; }
static long missing(void) { return MISSING; }
static long zero(void) { return 0; }
static const char *text(void) { return "a CUDA library is missing"; }

static void try_folder(const char *folder, const char *below, const char *file) {
    char path[4096];
    if (!library && folder && snprintf(path, sizeof path, "%s%s/%s", folder, below, file) < (int)sizeof path)
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
}

static void open_library(void) {
    static const char *const files[] = {FILES, 0};
    for (int i = 0; files[i] && !library; i++) {
        /* What LD_LIBRARY_PATH and the system know, then where toolkits are installed. */
        library = dlopen(files[i], RTLD_LAZY | RTLD_LOCAL);
        try_folder(getenv("CUDA_HOME"), "/lib64", files[i]);
        try_folder("/usr/local/cuda", "/lib64", files[i]);
    }
}

/* The function of a number. Called by the assembly with the caller's arguments put aside. */
__attribute__((visibility("hidden"))) void *JOIN(NAME, _resolve)(unsigned long index) {
    pthread_once(&once, open_library);
    void *found = library ? dlsym(library, JOIN(NAME, _names)[index]) : 0;
    if (!found) {
        switch (JOIN(NAME, _kinds)[index]) {
        case 't': found = (void *)text; break;
        case 'z': found = (void *)zero; break;
        default: found = library ? (void *)missing : (void *)absent;
        }
    }
    __atomic_store_n(&JOIN(NAME, _slots)[index], found, __ATOMIC_RELEASE);
    return found;
}
