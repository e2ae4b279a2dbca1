#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/terminal.h"
#include "tests/lib/echo_worker.h"

/* Terminals: what is typed comes back. A line may be a command: "exit N" ends the shell, "flood N"
 * writes N bytes, "hold" takes nothing more. A size is shown. */

enum { TERMINALS_MAX = 8 };

void echo_terminal_start(struct echo_exchange *x, struct echo_session *s, const Warren__Terminal *q)
{
    int open = 0;
    for (const struct echo_exchange *y = x->echo->exchanges; y != NULL; y = y->next) {
        open += y->session == s && y->op == WARREN__REQUEST__OP_TERMINAL && !y->dead;
    }
    if (open == TERMINALS_MAX) {
        echo_end(x, WARREN__STATUS__STATUS_FULL, "TerminalsFull", "too many terminals are open");
        return;
    }
    Warren__Reply r = WARREN__REPLY__INIT;
    Warren__Session session;
    r.status = WARREN__STATUS__STATUS_OK;
    echo_fill_session(s, &session);
    r.session = &session;
    x->session = s;
    x->credit = PROTO_CHUNK_CREDIT;
    echo_reply(x, PROTO_ENVELOPE_HEAD, &r);
    (void)base_buf_printf(&x->data, "%ux%u\n", q->columns, q->rows);
    echo_terminal_flush(x);
}

void echo_terminal_flush(struct echo_exchange *x)
{
    while (x->credit > 0 && base_buf_size(&x->data) > 0) {
        size_t n = base_buf_size(&x->data);
        n = n < PROTO_CHUNK_BYTES ? n : PROTO_CHUNK_BYTES;
        echo_send(x, PROTO_ENVELOPE_CHUNK, x->seq_out++, base_buf_data(&x->data), n);
        base_buf_consume(&x->data, n);
        x->credit--;
    }
}

static void end_shell(struct echo_exchange *x, int code)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    echo_terminal_flush(x);
    struct proto_envelope env = {.type = PROTO_ENVELOPE_CHUNK,
        .flags = PROTO_ENVELOPE_FIN,
        .corr = x->corr,
        .view = 1,
        .seq = x->seq_out++};
    (void)proto_net_send(x->echo->sockets[x->class], &x->peer, &env, NULL, 0);
    r.status = WARREN__STATUS__STATUS_OK;
    done.exit_code = code;
    r.done = &done;
    echo_reply(x, PROTO_ENVELOPE_END, &r);
    x->dead = true;
}

static void run_line(struct echo_exchange *x)
{
    x->line[x->line_n] = '\0';
    x->line_n = 0;
    if (strncmp(x->line, "exit ", 5) == 0) {
        end_shell(x, atoi(x->line + 5));
    } else if (strncmp(x->line, "flood ", 6) == 0) {
        size_t n = strtoul(x->line + 6, NULL, 10);
        memset(base_buf_room(&x->data, n), 'x', n);
        base_buf_grow(&x->data, n);
    }
    x->deaf = strcmp(x->line, "hold") == 0;
}

static void type(struct echo_exchange *x, const uint8_t *p, size_t n)
{
    (void)base_buf_add(&x->data, p, n);
    for (size_t i = 0; i < n && !x->dead && !x->deaf; i++) {
        if (p[i] == '\n') {
            run_line(x);
        } else if (x->line_n + 1 < sizeof x->line) {
            x->line[x->line_n++] = (char)p[i];
        }
    }
}

void echo_terminal_chunk(struct echo_exchange *x, const struct proto_net_message *m)
{
    if (m->env.seq != x->seq++ || m->body_bytes > PROTO_CHUNK_BYTES) {
        echo_end(x, WARREN__STATUS__STATUS_INVALID, "", "chunk out of order");
        return;
    }
    (void)base_buf_add(&x->typed, m->body, m->body_bytes);
    while (base_buf_size(&x->typed) >= PROTO_TERMINAL_HEAD && !x->dead) {
        const uint8_t *p = base_buf_data(&x->typed);
        size_t n = proto_terminal_u16(p + 1);
        if (base_buf_size(&x->typed) < PROTO_TERMINAL_HEAD + n) {
            break;
        }
        if (p[0] == PROTO_TERMINAL_SIZE) {
            (void)base_buf_printf(
                &x->data, "%zux%zu\n", proto_terminal_u16(p + 3), proto_terminal_u16(p + 5));
        } else {
            type(x, p + PROTO_TERMINAL_HEAD, n);
        }
        base_buf_consume(&x->typed, PROTO_TERMINAL_HEAD + n);
    }
    if (!x->dead) {
        echo_terminal_flush(x);
    }
    if (!x->dead && !x->deaf) {
        echo_send(x, PROTO_ENVELOPE_CREDIT, 1, NULL, 0);
    }
}
