/* Requests that wait for the first worker, and what they may hold of bodies before anybody knows
 * who sends them. The HTTP server below is made of arrays. */
#include "gateway/io/early.h"

#include "gateway/io/exchange.h"
#include "tests/lib/check.h"

enum { EXCHANGES = 600, WINDOW = 256 << 10 };

struct gw_exchange {
    unsigned address;
    const struct gw_exchange_ops *ops;
    void *owner;
    bool told;       /* it has come to the API */
    size_t replayed; /* bytes that the API got */
};

static struct gw_exchange all[EXCHANGES];
static struct gw_early early;
static uint8_t bytes[WINDOW];

static const struct gw_request post = {.method = GW_METHOD_POST,
    .target = "/pools/python/executions?api-version=2025-10-02-preview&identifier=abcd"};

const struct gw_request *gw_exchange_request(const struct gw_exchange *x)
{
    (void)x;
    return &post;
}

const void *gw_exchange_source(const struct gw_exchange *x)
{
    static const char addresses[EXCHANGES];
    return &addresses[x->address];
}

void gw_exchange_accept(struct gw_exchange *x, const struct gw_exchange_ops *ops, void *owner)
{
    x->ops = ops;
    x->owner = owner;
}

void gw_exchange_replay(struct gw_exchange *x, const uint8_t *body, size_t n)
{
    (void)body;
    CHECK(x->told);
    x->replayed += n;
}

static void on_request(void *owner, struct gw_exchange *x)
{
    (void)owner;
    x->told = true;
}

static void setup(void)
{
    memset(all, 0, sizeof all);
    early = (struct gw_early){.on_request = on_request};
}

/* A request with a whole window of body. */
static struct gw_exchange *ask(unsigned i, unsigned address)
{
    all[i].address = address;
    gw_early_request(&early, &all[i]);
    CHECK(!all[i].told);
    all[i].ops->body(all[i].owner, bytes, sizeof bytes);
    return &all[i];
}

static void open_and_end(void)
{
    gw_early_open(&early);
    CHECK_EQ(early.bytes, 0);
    CHECK(early.first == NULL && early.sources == NULL);
}

TEST(who_fills_the_room_is_sent_on_and_others_wait)
{
    setup();
    unsigned fits = GW_EARLY_BYTES_MAX / WINDOW, i = 0;
    for (; i < fits + 20; i++) {
        const struct gw_exchange *x = ask(i, 1);
        CHECK_EQ(x->told, i >= fits);
        CHECK_EQ(x->replayed, i >= fits ? WINDOW : 0);
    }
    for (unsigned k = 0; k < 10; k++) { /* from ten other addresses */
        CHECK(!ask(i + k, 2 + k)->told);
    }
    unsigned sent_on = 0;
    for (unsigned k = 0; k < fits; k++) {
        sent_on += all[k].told;
    }
    CHECK_EQ(sent_on, 10); /* it made room for them, and keeps the rest */
    CHECK_EQ(early.bytes, (size_t)GW_EARLY_BYTES_MAX);
    open_and_end();
    for (unsigned k = 0; k < i + 10; k++) {
        CHECK(all[k].told);
        CHECK_EQ(all[k].replayed, WINDOW);
    }
}

TEST(addresses_that_want_all_share_the_room)
{
    setup();
    unsigned fits = GW_EARLY_BYTES_MAX / WINDOW;
    for (unsigned i = 0; i < 4 * fits; i++) {
        (void)ask(i, i / fits); /* one after the other each asks for all */
    }
    unsigned waits[4] = {0};
    for (unsigned i = 0; i < 4 * fits; i++) {
        waits[i / fits] += !all[i].told;
    }
    for (unsigned k = 0; k < 4; k++) {
        CHECK(waits[k] + 1 >= fits / 4 && waits[k] <= fits / 4 + 1);
    }
    open_and_end();
}

TEST(who_goes_away_holds_nothing)
{
    setup();
    struct gw_exchange *x = ask(0, 1);
    struct gw_exchange *y = ask(1, 1);
    x->ops->gone(x->owner);
    CHECK_EQ(early.bytes, WINDOW);
    y->ops->gone(y->owner);
    open_and_end();
}
