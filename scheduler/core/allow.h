#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Who may say what. The transport has authenticated the sender and knows its part; a message that
 * this part never sends is not looked at, so that a stolen key of a gateway is not one of a voter.
 */
enum sched_part_of {
    SCHED_PART_WORKER = 1,
    SCHED_PART_GATEWAY = 2,
    SCHED_PART_VOTER = 4,
};

/* sender: one of enum sched_part_of. Unknown types are nobody's. */
bool sched_msg_allowed(uint8_t type, uint8_t sender);
