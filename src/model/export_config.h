/* SPDX-License-Identifier: Apache-2.0
 *
 * The few numbers that running somebody else's graph takes (layers, KV heads, head size,
 * vocabulary, context, special ids), of any architecture: from config.json, genai_config.json, or a
 * preset. What a kvern graph is built from takes more: config.h.
 */
#ifndef KVERN_MODEL_EXPORT_CONFIG_H
#define KVERN_MODEL_EXPORT_CONFIG_H

#include "kvern.h"
#include "model/config.h"

/* Tokens of context where nothing says. */
enum { EXPORT_DEFAULT_CONTEXT = 8192 };

/* Fills *config from the preset of that name, or (NULL) from DIRECTORY/config.json and
 * generation_config.json, else DIRECTORY/genai_config.json. Sizes that nothing states are 0;
 * *is_stated: there was any of the three. */
kvern_status export_config_read(struct model_config *config, const char *directory,
                                const char *preset, bool *is_stated, kvern_error *err);

#endif
