// Counts words. `hanshu map` calls it with the lines of a text, `items`, and then with the counts of all chunks, `results`.
exports.handler = async (event) => {
  const counts = {};
  const add = (word, n) => { counts[word] = (counts[word] ?? 0) + n; };
  for (const line of event.items ?? []) {
    for (const word of line.toLowerCase().match(/\p{L}+/gu) ?? []) add(word, 1);
  }
  for (const result of event.results ?? []) {
    for (const [word, n] of Object.entries(result)) add(word, n);
  }
  return counts;
};
