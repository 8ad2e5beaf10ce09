/* tokenizer.cc - see tokenizer.h. The only C++ here, because libsentencepiece has no C interface; no exception leaves
 * it. Decoding does not ask the library: what each token stands for is computed once, when the model is opened.
 *
 * A tokenizer.model comes from strangers, and the library (0.1.97) trusts some of what it reads: it follows the
 * offsets of a normalisation table without looking at its size, and reads past an array on the stack where more than
 * 64 user-defined pieces begin the same text. It prints, too. So the file, a protobuf message, is looked through
 * first, and only what was looked at is handed over:
 *
 *     ModelProto     1 SentencePiece[]   2 TrainerSpec   3 NormalizerSpec   4 self test   5 NormalizerSpec (output)
 *     SentencePiece  1 piece   2 score   3 type (4 = user-defined)
 *     NormalizerSpec 1 name    2 precompiled_charsmap */
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <eyrie/eyrie.h>
#include <sentencepiece_processor.h>

#include "tokenizer.h"

extern "C" {
#include "os.h"
#include "utf8.h"
}

struct ey_tokenizer {
    sentencepiece::SentencePieceProcessor processor;
    std::string         bytes;        /* of all tokens, one after the other */
    std::vector<size_t> begin;        /* [size + 1] where those of each token begin in it */
    bool                adds_space = false;
};

namespace {

constexpr uint64_t max_file = 64u << 20;     /* 256,000 pieces take 4 MiB */
constexpr size_t   max_piece = 1024;         /* bytes; the time to encode a text grows with the longest piece */
constexpr size_t   max_nested = 64;          /* the library's array, see above */
constexpr size_t   max_text = INT32_MAX / 3; /* the library counts in int, and makes three bytes of a space */

constexpr std::string_view space = "\xE2\x96\x81";   /* U+2581, which stands for a space in pieces */

/* ------------------------------------------------------------------------------------ protobuf, as far as needed */

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

struct field {
    uint64_t         number = 0;
    wire             type = VARINT;
    uint64_t         value = 0;       /* VARINT */
    std::string_view bytes;           /* the others */
    std::string_view whole;           /* the field with its tag */
};

bool take_varint(std::string_view &in, uint64_t &value)
{
    value = 0;
    for (size_t i = 0; i < in.size() && i < 10; i++) {
        const auto byte = static_cast<unsigned char>(in[i]);
        value |= uint64_t{byte & 0x7Fu} << (7 * i);
        if (byte < 0x80) {
            in.remove_prefix(i + 1);
            return true;
        }
    }
    return false;
}

/* Takes a field off the front of a message into a new `f`. False: malformed, or a group, which none here has. */
bool take_field(std::string_view &in, field &f)
{
    const std::string_view from = in;
    uint64_t tag, size = 0;
    if (!take_varint(in, tag) || tag > UINT32_MAX) return false;
    f.number = tag >> 3;
    f.type = static_cast<wire>(tag & 7);
    switch (f.type) {
    case VARINT:
        if (!take_varint(in, f.value)) return false;
        break;
    case FIXED64: size = 8; break;
    case FIXED32: size = 4; break;
    case BYTES:
        if (!take_varint(in, size)) return false;
        break;
    default: return false;
    }
    if (size > in.size()) return false;
    f.bytes = in.substr(0, size);
    in.remove_prefix(size);
    f.whole = from.substr(0, from.size() - in.size());
    return true;
}

/* ---------------------------------------------------------------------------------------- looking a model through */

/* Each check returns what is wrong, empty if nothing is. */

/* Adds the text of a user-defined piece to `defined`. A field that occurs twice counts both times, whichever of them
 * the library takes. */
std::string check_piece(std::string_view in, std::vector<std::string_view> &defined)
{
    std::vector<std::string_view> texts;
    bool is_defined = false;
    while (!in.empty()) {
        field f;
        if (!take_field(in, f)) return "malformed piece";
        if (f.number == 1 && f.type == BYTES) texts.push_back(f.bytes);
        if (f.number == 3 && f.type == VARINT && static_cast<uint32_t>(f.value) == 4) is_defined = true;
    }
    for (const auto text : texts) {
        if (text.size() > max_piece) {
            return "a piece of " + std::to_string(text.size()) + " bytes; at most " + std::to_string(max_piece);
        }
        if (is_defined) defined.push_back(text);
    }
    return "";
}

/* The library ends user-defined pieces at a zero byte, so that two could become one, or none. */
std::string check_defined(std::vector<std::string_view> &defined)
{
    std::sort(defined.begin(), defined.end());
    std::vector<std::string_view> open;   /* pieces that begin the current one, each the beginning of the next */
    for (const auto text : defined) {
        if (text.find('\0') != text.npos) return "a user-defined piece holds a zero byte";
        while (!open.empty() && text.substr(0, open.back().size()) != open.back()) open.pop_back();
        open.push_back(text);
        if (open.size() > max_nested) {
            return "more than " + std::to_string(max_nested) + " user-defined pieces begin with one another";
        }
    }
    return "";
}

std::string check_normalizer(std::string_view in)
{
    std::string name;
    bool has_table = false;
    while (!in.empty()) {
        field f;
        if (!take_field(in, f)) return "malformed normalizer";
        if (f.number == 1) name = f.bytes;
        if (f.number == 2 && !f.bytes.empty()) has_table = true;
    }
    return has_table ? "text is normalised by a table (\"" + name + "\"); only \"identity\" is supported" : "";
}

/* Copies to `kept` the fields that the library is to see: not the self test, whose failure it would print, and
 * nothing that is not known. Both settings have to be there, so that a file that was cut off does not pass. */
std::string check_model(std::string_view in, std::string &kept)
{
    const std::string not_model = "not a SentencePiece model, or cut off: ";
    const size_t size = in.size();
    std::vector<std::string_view> defined;
    bool has_trainer = false, has_normalizer = false;
    while (!in.empty()) {
        const size_t at = size - in.size();
        std::string wrong;
        field f;
        if (!take_field(in, f)) return not_model + "malformed field at byte " + std::to_string(at);
        if (f.type == BYTES) {
            if (f.number == 1) wrong = check_piece(f.bytes, defined);
            if (f.number == 2) has_trainer = true;
            if (f.number == 3) has_normalizer = true;
            if (f.number == 3 || f.number == 5) wrong = check_normalizer(f.bytes);
            if (f.number <= 3) kept += f.whole;
        }
        if (!wrong.empty()) return wrong + " (byte " + std::to_string(at) + ")";
    }
    if (!has_trainer || !has_normalizer) return not_model + "it has no settings";
    return check_defined(defined);
}

/* ------------------------------------------------------------------------------------------------------- opening */

/* What a token stands for, as the library decodes it: nothing for control pieces and for <unk>, one byte for <0xXX>,
 * else, unused pieces included, the text with its spaces back. */
std::string decode(const sentencepiece::SentencePieceProcessor &p, int id)
{
    if (p.IsControl(id) || p.IsUnknown(id)) return "";
    std::string piece = p.IdToPiece(id);
    if (p.IsByte(id)) return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
    for (size_t at = 0; (at = piece.find(space, at)) != piece.npos; at++) piece.replace(at, space.size(), " ");
    return piece;
}

std::string load(ey_tokenizer &t, std::string_view file)
{
    if (file.size() > max_file) {
        return std::to_string(file.size()) + " bytes; at most " + std::to_string(max_file) + " are supported";
    }
    std::string kept;
    std::string wrong = check_model(file, kept);
    if (!wrong.empty()) return wrong;
    auto status = t.processor.LoadFromSerializedProto(kept);
    if (!status.ok()) return status.message();

    const int size = t.processor.GetPieceSize();
    for (int id = 0; id < size; id++) {
        t.begin.push_back(t.bytes.size());
        t.bytes += decode(t.processor, id);
    }
    t.begin.push_back(t.bytes.size());

    std::vector<int> probe;
    status = t.processor.Encode("a", &probe);
    if (!status.ok()) return status.message();
    size_t n = 0;
    const char *first = probe.empty() ? "" : ey_tokenizer_bytes(&t, probe[0], &n);
    t.adds_space = n > 0 && first[0] == ' ';
    return "";
}

}  // namespace

extern "C" {

eyrie_status ey_tokenizer_open(ey_tokenizer **out, const char *path, eyrie_error *err)
{
    *out = nullptr;
    ey_map map;
    eyrie_status st = ey_map_open(&map, path, err);
    if (st != EYRIE_OK) return st;
    try {
        auto t = std::make_unique<ey_tokenizer>();
        const auto wrong = load(*t, { reinterpret_cast<const char *>(map.data), static_cast<size_t>(map.size) });
        if (wrong.empty()) {
            *out = t.release();
        } else {
            st = ey_fail(err, EYRIE_EFORMAT, "%s: %s", path, wrong.c_str());
        }
    } catch (const std::bad_alloc &) {
        st = ey_fail(err, EYRIE_ENOMEM, "%s: no memory for the tokenizer", path);
    } catch (const std::exception &e) {
        st = ey_fail(err, EYRIE_EFORMAT, "%s: %s", path, e.what());
    }
    ey_map_close(&map);
    return st;
}

void ey_tokenizer_close(ey_tokenizer *t) { delete t; }

uint32_t ey_tokenizer_size(const ey_tokenizer *t) { return static_cast<uint32_t>(t->begin.size() - 1); }

int32_t ey_tokenizer_find(const ey_tokenizer *t, const char *piece)
{
    const int id = t->processor.PieceToId(piece);   /* that of <unk> if there is no such piece */
    return t->processor.IdToPiece(id) == piece ? id : -1;
}

eyrie_status ey_tokenizer_encode(const ey_tokenizer *t, const char *text, size_t length, int32_t **ids, size_t *n,
                                 eyrie_error *err)
{
    *ids = nullptr;
    *n = 0;
    const size_t wrong = ey_utf8_check(text, length);
    if (wrong < length) {
        return ey_fail(err, EYRIE_EINVAL, "text is not UTF-8: byte %zu is 0x%02X", wrong,
                       static_cast<unsigned>(static_cast<unsigned char>(text[wrong])));
    }
    if (length > max_text) {
        return ey_fail(err, EYRIE_ELIMIT, "text of %zu bytes; at most %zu at once: split it", length, max_text);
    }
    try {
        std::vector<int> found;
        const auto status = t->processor.Encode({ text, length }, &found);
        if (!status.ok()) {
            return ey_fail(err, EYRIE_EFORMAT, "tokenizer cannot encode the text: %s", status.message());
        }
        if (found.empty()) return EYRIE_OK;
        *ids = static_cast<int32_t *>(ey_calloc(found.size(), sizeof **ids));
        if (*ids == nullptr) return ey_fail(err, EYRIE_ENOMEM, "%zu token ids", found.size());
        std::copy(found.begin(), found.end(), *ids);
        *n = found.size();
        return EYRIE_OK;
    } catch (const std::bad_alloc &) {
        return ey_fail(err, EYRIE_ENOMEM, "tokenizing a text of %zu bytes", length);
    } catch (const std::exception &e) {
        return ey_fail(err, EYRIE_EFORMAT, "tokenizer cannot encode the text: %s", e.what());
    }
}

const char *ey_tokenizer_bytes(const ey_tokenizer *t, int32_t id, size_t *length)
{
    *length = 0;
    if (id < 0 || static_cast<uint32_t>(id) >= ey_tokenizer_size(t)) return "";
    const auto i = static_cast<size_t>(id);
    *length = t->begin[i + 1] - t->begin[i];
    return t->bytes.data() + t->begin[i];
}

bool ey_tokenizer_adds_space(const ey_tokenizer *t) { return t->adds_space; }

}  // extern "C"
