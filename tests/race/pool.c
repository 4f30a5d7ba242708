/* Eight threads take, fill, check and give back blocks of the pool in _native/memory.pyx, empty it and fork now and
   then: built with ThreadSanitizer by tests/race/run.py, without an interpreter and so without its lock. */
#include POOL_C

#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define take JOIN(__pyx_f_8convgrad_7_native_6memory_, take)
#define give JOIN(__pyx_f_8convgrad_7_native_6memory_, give)
#define drop_kept JOIN(__pyx_f_8convgrad_7_native_6memory_, drop_kept)

enum { THREADS = 8, ROUNDS = 1000, HELD = 6 };

static unsigned next(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *work(void *arg) {
    unsigned state = (unsigned)(size_t)arg, tag = state << 20;
    unsigned *held[HELD] = {0}, tags[HELD] = {0};
    size_t sizes[HELD] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        unsigned i = next(&state) % HELD;
        if (held[i]) {
            if (held[i][0] != tags[i] || held[i][sizes[i] - 1] != tags[i])
                return "a block was handed out twice";
            give(held[i]);
        }
        sizes[i] = 64 + next(&state) % 60000;
        held[i] = take(sizes[i] * sizeof(unsigned));
        if (!held[i])
            return "no memory";
        tags[i] = tag + round;
        for (size_t k = 0; k < sizes[i]; k++)
            held[i][k] = tags[i];
        if (next(&state) % 512 == 0)
            drop_kept();
    }
    for (int i = 0; i < HELD; i++)
        if (held[i])
            give(held[i]);
    return 0;
}

#ifdef FORKS
#ifdef UNPROTECTED
#define PATIENCE 3
#else
#define PATIENCE 60
#endif
static volatile int stop;

/* Holds the lock nearly all the time, so that forks meet it. */
static void *hold(void *arg) {
    while (!stop) {
        CG_LOCK();
        usleep(500);
        CG_UNLOCK();
        usleep(20);
    }
    return 0;
}
#endif

int main(void) {
    pthread_t threads[THREADS];
    int failed = 0;
    __pyx_v_8convgrad_7_native_6memory_limit_bytes = 4 << 20; /* so that blocks are dropped as well */
#ifndef UNPROTECTED
    cg_survive_fork();
#endif
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], 0, work, (void *)(i + 1));
#ifdef FORKS
    pthread_t holder;
    pthread_create(&holder, 0, hold, 0);
    for (int i = 0; i < FORKS && !failed; i++) { /* in the child the lock must be free, whoever held it */
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE); /* seconds */
            void *block = take(100000);
            give(block);
            drop_kept();
            _exit(block ? 0 : 1);
        }
        int status = 1;
        waitpid(child, &status, 0);
        if (status)
            failed = 1, printf("a child ended with status %d\n", status);
    }
    stop = 1;
    pthread_join(holder, 0);
#endif
    for (int i = 0; i < THREADS; i++) {
        void *said = 0;
        pthread_join(threads[i], &said);
        if (said)
            failed = 1, printf("%s\n", (char *)said);
    }
    if (!failed)
        printf("the pool holds\n");
    return failed;
}
