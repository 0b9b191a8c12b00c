/* SPDX-License-Identifier: Apache-2.0
 *
 * What a struct tokenizer is made of: shared by the files that read it, encode and decode, and by
 * nothing else.
 */
#ifndef KVERN_TEXT_TOKENIZER_PARTS_H
#define KVERN_TEXT_TOKENIZER_PARTS_H

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decode.h"
#include "text/normalize.h"
#include "text/post_process.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/unigram.h"
#include "text/vocabulary.h"
#include "text/wordpiece.h"

enum model_kind {
    MODEL_BPE,
    MODEL_WORDPIECE,
    MODEL_UNIGRAM,
    MODEL_BYTES, /* a byte is a token of its value */
};

struct tokenizer {
    struct vocabulary vocabulary;
    struct added_set raw_tokens;        /* sought in the text as it is */
    struct added_set normalized_tokens; /* sought in normalized text */
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    enum model_kind model; /* which of the models below is open */
    struct bpe bpe;
    struct wordpiece wordpiece;
    struct unigram unigram;
    struct post_processor post_processor;
    struct decoder decoder;
};

#endif
