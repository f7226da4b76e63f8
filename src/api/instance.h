/* instance - what the files about instances share; private to this room. */
#pragma once
#include "api/operation.h"

/* The object of the API: the row, expanded, with its status. level 2: with state, snapshots, backups. */
json_t *instance_json(struct api *a, const json_t *row, int level);
/* …/state. */
json_t *instance_state_json(struct api *a, const json_t *row);
/* Its monitor has ended. */
void instance_stopped(struct api *a, const char *name);
/* Starts one of the verbs start, stop, restart for the daemon's own reasons; logs a failure. */
void instance_start_quietly(struct api *a, const char *name);
/* LXD's numbers: 101…112. */
int instance_status(struct api *a, const json_t *row, const char **ret_text);

void instance_post(struct call *c);        /* create.c: POST /1.0/instances */
void instance_exec(struct call *c);        /* exec.c */
void instance_move_source(struct call *c); /* move.c: POST /1.0/instances/NAME with "migration" */
void instance_move_target(struct call *c, const json_t *source); /* POST /1.0/instances, source.type migration */
void instance_state_get(struct call *c);   /* state.c */
void instance_state_put(struct call *c);

/* config, devices and profiles of a body: known keys, existing profiles. */
int instance_body_check(struct api *a, const json_t *body, struct err *e);
/* An idle row of ours: -ENOENT, -EBUSY with a sentence. */
int instance_mine(struct api *a, const char *name, json_t **ret_row, struct err *e);
