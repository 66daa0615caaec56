/* bench_absl.cc - Abseil's flat_hash_map as a subject, twice: what a good table of a library does, so that
 * the limit is not one that is easy to reach.
 *
 *   absl     keys of any length (string_view), each beside its value, behind a call of a function: what
 *            the limit does as well
 *   absl16   keys of 16 bytes, which the compiler knows: they stand in the table itself, hash and
 *            comparison are a few instructions in the caller's loop; nothing that takes any key can
 *            have that
 *
 * Table and values lie in pages of the size that the cache's pool has.
 */
#include <array>
#include <string_view>
#include <sys/mman.h>
#include <absl/container/flat_hash_map.h>
#include "bench_subject.h"

namespace
{

constexpr size_t HUGE_BYTES = 2 << 20;

size_t pages(size_t bytes) { return (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES; }

void *map_pages(size_t bytes)
{
	bool huge = hc_page_kb == HUGE_BYTES >> 10;
	void *p = mmap(nullptr, pages(bytes), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB | 21 << 26 : 0), -1, 0);

	if (p == MAP_FAILED)
		subject_fail("absl", "gets no such pages as the pool has: reserve four times as "
				     "many, or give --no-huge");
	if (!huge)
		(void)madvise(p, pages(bytes), MADV_NOHUGEPAGE);
	return p;
}

template <class T> struct page_allocator {
	using value_type = T;
	page_allocator() = default;
	template <class U> page_allocator(const page_allocator<U> &) {}
	T *allocate(size_t n) { return static_cast<T *>(map_pages(n * sizeof(T))); }
	void deallocate(T *p, size_t n) { (void)munmap(p, pages(n * sizeof(T))); }
	bool operator==(const page_allocator &) const { return true; }
	bool operator!=(const page_allocator &) const { return false; }
};

struct value {
	const uint8_t *at;
	size_t bytes;
};
using key_any = std::string_view;
using key_16 = std::array<char, KEY_BYTES>;

key_any as_key(const uint8_t *key, key_any)
{
	return {reinterpret_cast<const char *>(key), KEY_BYTES};
}
const key_16 &as_key(const uint8_t *key, const key_16 &)
{
	return *reinterpret_cast<const key_16 *>(key);
}

template <class K> struct subject_table {
	using table = absl::flat_hash_map<K, value, absl::Hash<K>, std::equal_to<K>,
		page_allocator<std::pair<const K, value>>>;

	static table *map;
	static uint8_t *entries; /* key and value, one after the other */
	static struct data data;

	static size_t entry_bytes() { return KEY_BYTES + (data.value_bytes + 7) / 8 * 8; }

	static const char *begin(const struct setup *setup)
	{
		data = setup->data;
		return nullptr;
	}

	static void fill()
	{
		map = new table;
		map->reserve(data.keys);
		entries = static_cast<uint8_t *>(map_pages(data.keys * entry_bytes()));
		for (uint64_t i = 0; i < data.keys; i++) {
			uint8_t *key = entries + i * entry_bytes(), *at = key + KEY_BYTES;
			data_key(i, key);
			memset(at, 'v', data.value_bytes);
			memcpy(at, key, 8);
			map->emplace(as_key(key, K()), (struct value){at, data.value_bytes});
		}
	}

	static void *join(enum join) { return map; }
	static void leave(void *) {}

	static void end()
	{
		delete map;
		map = nullptr;
		(void)munmap(entries, pages(data.keys * entry_bytes()));
	}

	/* As the limit's: the value in place, or null. */
	static inline const uint8_t *find(const table *t, const uint8_t *key, size_t *ret_bytes)
	{
		auto found = t->find(as_key(key, K()));

		if (found == t->end())
			return nullptr;
		*ret_bytes = found->second.bytes;
		return found->second.at;
	}
	static inline bool copy(
		const table *t, const uint8_t *key, void *buf, size_t buf_bytes, size_t *ret_bytes)
	{
		const uint8_t *v = find(t, key, ret_bytes);

		if (!v || *ret_bytes > buf_bytes)
			return false;
		memcpy(buf, v, *ret_bytes);
		return true;
	}
};
template <class K> typename subject_table<K>::table *subject_table<K>::map;
template <class K> uint8_t *subject_table<K>::entries;
template <class K> struct data subject_table<K>::data;
using any = subject_table<key_any>;
using only_16 = subject_table<key_16>;

/* What a program calls in a library, as it calls the limit and the cache. */
__attribute__((noinline)) const uint8_t *any_view(
	const any::table *t, const uint8_t *key, size_t *ret_bytes)
{
	return any::find(t, key, ret_bytes);
}
__attribute__((noinline)) bool any_get(
	const any::table *t, const uint8_t *key, void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	return any::copy(t, key, buf, buf_bytes, ret_bytes);
}

template <class T, const uint8_t *(*find)(const typename T::table *, const uint8_t *, size_t *)>
uint64_t run_view(void *session, const struct work *, const uint8_t *key, size_t n)
{
	auto t = static_cast<const typename T::table *>(session);
	uint64_t sum = 0;
	size_t bytes;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		const uint8_t *v = find(t, key, &bytes);
		sum += v ? data_word(v) : 0;
	}
	return sum;
}

template <class T,
	bool (*copy)(const typename T::table *, const uint8_t *, void *, size_t, size_t *)>
uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	auto t = static_cast<const typename T::table *>(session);
	uint64_t sum = 0;
	size_t bytes;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES)
		if (copy(t, key, w->buf, w->value_bytes, &bytes))
			sum += data_word(w->buf);
	return sum;
}

const struct kind kinds_any[] = {
	{"absl_view", "absl::flat_hash_map, in place", 1, 1, KIND_IN_PLACE | KIND_NEXT,
		run_view<any, any_view>},
	{"absl_get", "absl::flat_hash_map, copy", 1, 1, KIND_GET | KIND_NEXT,
		run_get<any, any_get>},
};
const struct kind kinds_16[] = {
	{"absl16_view", "the same for 16-byte keys, in place", 1, 1, KIND_IN_PLACE | KIND_NEXT,
		run_view<only_16, only_16::find>},
	{"absl16_get", "the same for 16-byte keys, copy", 1, 1, KIND_GET | KIND_NEXT,
		run_get<only_16, only_16::copy>},
};

} // namespace

extern "C" const struct subject subject_absl = {"absl", kinds_any, 2, true, any::begin, any::fill,
	any::join, any::leave, any::end, nullptr, nullptr};
extern "C" const struct subject subject_absl16 = {"absl16", kinds_16, 2, true, only_16::begin,
	only_16::fill, only_16::join, only_16::leave, only_16::end, nullptr, nullptr};
