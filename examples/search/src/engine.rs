//! The search engine, used as its documentation describes. This file does not refer to an arena.

use crate::BoxError;
use crate::documents::Document;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};
use tantivy::collector::{Count, TopDocs};
use tantivy::directory::RamDirectory;
use tantivy::query::QueryParser;
use tantivy::schema::{Field, STORED, Schema, TEXT, Value};
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TantivyDocument,
};

/// The documents shown per answer.
const SHOWN: usize = 10;

/// Bytes that the engine collects before it writes a segment of the index.
const BUDGET: usize = 64 << 20;

const QUERIES: &[&str] = &[
    "iterator",
    "mutex poisoned",
    "borrow checker",
    "unsafe cell",
    "\"interior mutability\"",
    "hash map entry",
    "string slice",
    "\"thread local\"",
    "atomic ordering acquire",
    "pin project",
    "title:vec",
    "title:option",
    "title:result",
    "title:simd",
    "title:cargo",
    "macro_rules",
    "lifetime elision",
    "trait object",
    "dyn any downcast",
    "\"integer overflow\"",
    "wrapping_add",
    "float nan",
    "utf8 boundary",
    "\"raw pointer\"",
    "alloc layout",
    "global allocator",
    "box leak",
    "rc weak cycle",
    "channel sender",
    "condvar wait",
    "tcp listener",
    "path buf",
    "read to string",
    "closure capture",
    "async await",
    "future poll",
    "panic unwind",
    "drop order",
    "const generics",
    "feature resolver",
    "workspace members",
    "build script",
    "linker",
    "target triple",
    "lint",
    "sort stable",
    "binary search",
    "btree range",
    "linked list",
    "deque rotate",
    "zip chain",
    "fold reduce",
    "peekable",
    "duration saturating",
    "instant elapsed",
    "process command",
    "environment variable",
    "exit code",
    "stdin lines",
    "buffered writer",
    "seek file",
    "hardlink",
    "+safe -unsafe",
    "+vector +capacity +reallocate",
    "guessing game",
    "ownership",
    "nomicon variance",
];

/// An index in memory, with its reader.
pub(crate) struct Engine {
    directory: RamDirectory,
    reader: IndexReader,
    parser: QueryParser,
    title: Field,
    body: Field,
    text_bytes: usize,
}

impl Engine {
    /// Indexes the documents and stores their texts.
    pub(crate) fn index(documents: impl Iterator<Item = Document>) -> Result<Self, BoxError> {
        let mut schema = Schema::builder();
        let title = schema.add_text_field("title", TEXT | STORED);
        let body = schema.add_text_field("body", TEXT | STORED);
        let directory = RamDirectory::create();
        let index = Index::create(directory.clone(), schema.build(), IndexSettings::default())?;
        let mut text_bytes = 0;
        let mut writer: IndexWriter = index.writer_with_num_threads(1, BUDGET)?;
        for document in documents {
            text_bytes += document.title.len() + document.body.len();
            let mut fields = TantivyDocument::default();
            fields.add_text(title, document.title);
            fields.add_text(body, document.body);
            writer.add_document(fields)?;
        }
        if text_bytes == 0 {
            return Err("there is no text in these files that can be read".into());
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let parser = QueryParser::for_index(&index, vec![title, body]);
        Ok(Self { directory, reader, parser, title, body, text_bytes })
    }

    pub(crate) fn documents(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// Bytes of indexed text.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Bytes of the index, as the engine counts them.
    pub(crate) fn index_bytes(&self) -> usize {
        self.directory.total_mem_usage()
    }

    /// Runs all queries.
    pub(crate) fn ask_all(&self) -> Result<Answers, BoxError> {
        let searcher = self.reader.searcher();
        QUERIES
            .iter()
            .map(|query| self.ask(&searcher, query))
            .collect::<Result<_, _>>()
            .map(Answers)
    }

    fn ask(&self, searcher: &Searcher, query: &str) -> Result<Answer, BoxError> {
        let start = Instant::now();
        let query = self.parser.parse_query(query)?;
        let top = TopDocs::with_limit(SHOWN).order_by_score();
        let (count, top) = searcher.search(&query, &(Count, top))?;
        let mut shown = Vec::with_capacity(SHOWN);
        for (score, address) in top {
            let document: TantivyDocument = searcher.doc(address)?;
            let text = |field| document.get_first(field).and_then(|value| value.as_str());
            let mut hasher = DefaultHasher::new();
            (score.to_bits(), text(self.title), text(self.body)).hash(&mut hasher);
            shown.push(hasher.finish());
        }
        Ok(Answer { count, shown, time: start.elapsed() })
    }
}

/// The answers to all queries, in order.
pub(crate) struct Answers(Vec<Answer>);

struct Answer {
    /// The number of matching documents.
    count: usize,
    /// For each document shown: a hash of its score, title and text.
    shown: Vec<u64>,
    time: Duration,
}

impl Answers {
    /// The number of answers that differ.
    pub(crate) fn differing(&self, other: &Self) -> usize {
        let same = |(a, b): (&Answer, &Answer)| a.count == b.count && a.shown == b.shown;
        QUERIES.len() - self.0.iter().zip(&other.0).filter(|pair| same(*pair)).count()
    }

    /// The total of matching documents.
    pub(crate) fn matches(&self) -> usize {
        self.0.iter().map(|answer| answer.count).sum()
    }

    /// The time of each query, the shortest first.
    pub(crate) fn times(&self) -> Vec<Duration> {
        let mut times: Vec<_> = self.0.iter().map(|answer| answer.time).collect();
        times.sort();
        times
    }
}
