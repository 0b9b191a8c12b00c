/* SPDX-License-Identifier: Apache-2.0
 *
 * config_check(): refuses what no kernel could run, so that nobody after it needs to doubt a size.
 */
#include "model/config.h"

#include "base/error.h"

enum { MAX_COUNT = 1 << 24, MAX_LAYERS = 1024 };

static kvern_status check_ids(const struct model_config *config, kvern_error *err)
{
    int64_t vocab_size = (int64_t)config->vocab_size;

    if (config->bos < -1 || config->bos >= vocab_size)
        return fail(err, KVERN_FORMAT, "bos_token_id = %d is outside the vocabulary of %zu",
                    config->bos, config->vocab_size);
    if (config->pad < -1 || config->pad >= vocab_size)
        return fail(err, KVERN_FORMAT, "pad_token_id = %d is outside the vocabulary of %zu",
                    config->pad, config->vocab_size);
    if (config->n_eos > CONFIG_MAX_EOS)
        return fail(err, KVERN_LIMIT, "there are %zu eos ids; at most %d are supported",
                    config->n_eos, CONFIG_MAX_EOS);
    for (size_t i = 0; i < config->n_eos; i++) {
        if (config->eos[i] < 0 || config->eos[i] >= vocab_size)
            return fail(err, KVERN_FORMAT, "eos_token_id = %d is outside the vocabulary of %zu",
                        config->eos[i], config->vocab_size);
    }
    return KVERN_OK;
}

/* Written so that a NaN fails. */
static bool is_between(float value, double low, double high)
{
    return value >= low && value <= high;
}

static kvern_status check_rope(const struct model_config *config, kvern_error *err)
{
    float low = config->rope_low_freq_factor;
    float high = config->rope_high_freq_factor;

    if (!is_between(config->rope_theta, 1, 1e12))
        return fail(err, KVERN_FORMAT, "rope_theta = %g is not between 1 and 1e12",
                    (double)config->rope_theta);
    if ((config->rope_scaling == ROPE_SCALING_LINEAR ||
         config->rope_scaling == ROPE_SCALING_LLAMA3) &&
        !is_between(config->rope_factor, 1e-3, 1e6))
        return fail(err, KVERN_FORMAT, "the rope scaling factor = %g is not between 0.001 and 1e6",
                    (double)config->rope_factor);
    if (config->rope_scaling == ROPE_SCALING_LLAMA3) {
        if (!is_between(low, 1e-6, 1e6) || !is_between(high, 1e-6, 1e6) || low >= high)
            return fail(err, KVERN_FORMAT,
                        "rope scaling llama3 needs 0 < low_freq_factor < high_freq_factor, not %g "
                        "and %g",
                        (double)low, (double)high);
        if (config->rope_original_max_positions < 1 ||
            config->rope_original_max_positions > MAX_COUNT)
            return fail(err, KVERN_FORMAT,
                        "original_max_position_embeddings = %zu is not between 1 and %d",
                        config->rope_original_max_positions, MAX_COUNT);
    }
    if (config->rope_scaling == ROPE_SCALING_DIVISORS) {
        for (size_t i = 0; i < config->head_size / 2; i++) {
            if (!is_between(config->rope_divisors[i], 1e-3, 1e6))
                return fail(err, KVERN_FORMAT,
                            "rope_freqs.weight[%zu] = %g is not between 0.001 and 1e6", i,
                            (double)config->rope_divisors[i]);
        }
    }
    return KVERN_OK;
}

static kvern_status check_seq2seq(const struct model_config *config, kvern_error *err)
{
    bool is_of_gate = config->activation == MODEL_ACTIVATION_SILU ||
                      config->activation == MODEL_ACTIVATION_GELU_TANH;

    if (config->n_encoder_layers < 1 || config->n_encoder_layers > MAX_LAYERS)
        return fail(err, KVERN_FORMAT, "num_layers = %zu is not between 1 and %d",
                    config->n_encoder_layers, MAX_LAYERS);
    if (config->n_kv_heads != config->n_heads)
        return fail(err, KVERN_FORMAT, "an encoder-decoder has %zu kv heads, but %zu heads",
                    config->n_kv_heads, config->n_heads);
    if (config->is_gated && !is_of_gate)
        return fail(err, KVERN_UNSUPPORTED, "a gated feed-forward can be gelu or silu only");
    if (config->relative_buckets > 4096 || config->relative_buckets % 4 != 0)
        return fail(err, KVERN_UNSUPPORTED,
                    "relative_attention_num_buckets = %zu is not a multiple of 4 up to 4096",
                    config->relative_buckets);
    if (config->relative_buckets > 0 &&
        (config->relative_max_distance <= config->relative_buckets / 2 ||
         config->relative_max_distance > 1 << 16))
        return fail(err, KVERN_UNSUPPORTED,
                    "relative_attention_max_distance = %zu is not over half of %zu buckets and up "
                    "to 65536",
                    config->relative_max_distance, config->relative_buckets);
    if (config->decoder_start < 0 || config->decoder_start >= (int64_t)config->vocab_size)
        return fail(err, KVERN_FORMAT,
                    "decoder_start_token_id = %d is outside the vocabulary of %zu",
                    config->decoder_start, config->vocab_size);
    return KVERN_OK;
}

/* What only one of the kinds has. */
static kvern_status check_kind(const struct model_config *config, kvern_error *err)
{
    bool is_encoder = config_is_encoder(config);

    if (!is_between(config->norm_epsilon, 0, 1))
        return fail(err, KVERN_FORMAT, "%s = %g is not between 0 and 1",
                    is_encoder ? "layer_norm_eps" : "rms_norm_eps", (double)config->norm_epsilon);
    if (config_is_seq2seq(config))
        return check_seq2seq(config, err);
    if (!is_encoder && config->activation != MODEL_ACTIVATION_SILU &&
        config->activation != MODEL_ACTIVATION_GELU_TANH)
        return fail(err, KVERN_UNSUPPORTED, "a decoder's activation can be silu or gelu_tanh only");
    if (!is_encoder)
        return check_rope(config, err);
    if (config->n_kv_heads != config->n_heads)
        return fail(err, KVERN_FORMAT, "an encoder has num_key_value_heads = %zu, but %zu heads",
                    config->n_kv_heads, config->n_heads);
    if (config->hidden_size != config->n_heads * config->head_size)
        return fail(err, KVERN_FORMAT, "hidden_size = %zu is not num_attention_heads = %zu x %zu",
                    config->hidden_size, config->n_heads, config->head_size);
    return KVERN_OK;
}

kvern_status config_check(const struct model_config *config, kvern_error *err)
{
    const struct {
        const char *name;
        size_t value;
        size_t low;
        size_t high;
    } ranges[] = {
        {"num_hidden_layers", config->n_layers, 1, MAX_LAYERS},
        {"num_attention_heads", config->n_heads, 1, 1024},
        {"num_key_value_heads", config->n_kv_heads, 1, 1024},
        {"head_dim", config->head_size, 8, CONFIG_MAX_HEAD_SIZE},
        {"hidden_size", config->hidden_size, 1, 1 << 17},
        {"intermediate_size", config->intermediate_size, 1, 1 << 20},
        {"vocab_size", config->vocab_size, 1, MAX_COUNT},
        {"max_position_embeddings", config->max_positions, 1, MAX_COUNT},
        {"sliding_window", config->sliding_window, 0, MAX_COUNT},
        {"type_vocab_size", config->n_token_types, 0, MAX_COUNT},
    };

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (ranges[i].value < ranges[i].low || ranges[i].value > ranges[i].high)
            return fail(err, KVERN_FORMAT, "%s = %zu is not between %zu and %zu", ranges[i].name,
                        ranges[i].value, ranges[i].low, ranges[i].high);
    }
    if (config->n_heads % config->n_kv_heads != 0)
        return fail(err, KVERN_FORMAT,
                    "num_attention_heads = %zu is not a multiple of num_key_value_heads = %zu",
                    config->n_heads, config->n_kv_heads);
    if (config->head_size % 8 != 0)
        return fail(err, KVERN_UNSUPPORTED, "head_dim = %zu is not a multiple of 8",
                    config->head_size);
    kvern_status status = check_kind(config, err);
    if (status != KVERN_OK)
        return status;
    return check_ids(config, err);
}
