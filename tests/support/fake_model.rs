//! A fake model that can be told to misbehave, for tests of the code around it.
//!
//! A text has one token per word, between two special tokens; a word's id is computed from its
//! bytes. Images and videos become words, too: see `part`. Hidden states depend on ids and
//! positions alone. The word `poison` makes a sequence's output NaN, `panic` makes the whole batch
//! panic, `crash` makes the device fail for good, and `slow` makes a batch pause until it is told
//! to end. Preparing the text `waits` takes until its caller disconnects.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use proxima_models::media::MediaError;
use proxima_models::model::Readouts;
use proxima_models::readout::{EmbeddingReadout, Pooling, Similarity};
use proxima_models::recipes::{Cancelled, Recipe, SpecialTokens, Token, Tokenize};
use proxima_models::{
    BatchRows, Content, DeviceChoice, Encoder, HiddenStates, Input, InputError, Item, MediaFile,
    Model, ModelError, ModelInfo, Part, Prepare, Prompt, RaggedBatch, Sequence, TruncationSide,
    VideoSource,
};

/// Width of a vector.
pub const WIDTH: usize = 8;
/// Maximum tokens of a sequence.
pub const TOKENS_MAX: usize = 16;
const VOCABULARY: usize = 10_000;
const BEGIN: u32 = 0;
const END: u32 = 1;
const POISON: u32 = 2;
const PANIC: u32 = 3;
const SLOW: u32 = 4;
const CRASH: u32 = 9_999;

/// Controls and counters of a fake model.
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// Sequences computed so far.
    pub computed: Arc<AtomicUsize>,
    /// Batches run so far.
    pub batches: Arc<AtomicUsize>,
    /// Tokens of the sequences computed so far, in order.
    pub order: Arc<Mutex<Vec<Vec<u32>>>>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
    /// `(times, bytes)`: how many more times an image of this many bytes finds the pixel budget
    /// full.
    crowded: Arc<Mutex<(usize, usize)>>,
    slow_runs: Arc<AtomicBool>,
    /// Inputs `waits` whose preparation has started, and those of them whose callers have
    /// disconnected.
    waiting: Arc<(AtomicUsize, AtomicUsize)>,
    slow_may_end: Arc<AtomicBool>,
    crashed: Arc<AtomicBool>,
    /// Tokens that fit into the device's memory, if it is limited.
    memory: Arc<Mutex<Option<usize>>>,
}

#[derive(Debug, Default)]
struct Gate {
    shut: bool,
    waiting: usize,
}

#[allow(dead_code, reason = "not every test uses every knob")]
impl Knobs {
    /// Makes batches wait at the gate from now on.
    pub fn shut(&self) {
        self.gate.0.lock().expect("no test panics here").shut = true;
    }

    /// Lets batches through the gate again.
    pub fn open(&self) {
        self.gate.0.lock().expect("no test panics here").shut = false;
        self.gate.1.notify_all();
    }

    /// Blocks until a batch waits at the gate.
    pub fn wait_until_a_batch_waits(&self) {
        self.wait_until_batches_wait(1);
    }

    /// Blocks until `count` batches wait at the gate, each on a device of its own.
    pub fn wait_until_batches_wait(&self, count: usize) {
        let mut gate = self.gate.0.lock().expect("no test panics here");
        while gate.waiting < count {
            gate = self.gate.1.wait(gate).expect("no test panics here");
        }
    }

    /// Ends the pauses of batches with the word `slow`.
    pub fn end_slow(&self) {
        self.slow_may_end.store(true, Ordering::SeqCst);
    }

    /// Makes batches of more than `tokens` tokens run out of device memory.
    pub fn limit_memory(&self, tokens: usize) {
        *self.memory.lock().expect("no test panics here") = Some(tokens);
    }

    /// Makes the device of the first model with these knobs fail.
    pub fn crash(&self) {
        self.crashed.store(true, Ordering::SeqCst);
    }

    /// The same model on the same device, failed or not.
    pub fn still(&self) -> Model {
        fake_model_with(self.clone())
    }

    /// The same model on another device, or on the same one reopened: with these knobs, not
    /// crashed.
    pub fn again(&self) -> Model {
        let knobs = Self { crashed: Arc::default(), ..self.clone() };
        fake_model_with(knobs)
    }

    /// Makes an image of `bytes` bytes find the pixel budget full `times` times.
    pub fn crowd(&self, times: usize, bytes: usize) {
        *self.crowded.lock().expect("no test panics here") = (times, bytes);
    }

    /// Whether a batch with the word `slow` has started.
    pub fn slow_runs(&self) -> bool {
        self.slow_runs.load(Ordering::SeqCst)
    }

    /// How many inputs `waits` have started to be prepared, and how many of their callers have
    /// disconnected.
    pub fn waiting_and_left(&self) -> (usize, usize) {
        (self.waiting.0.load(Ordering::SeqCst), self.waiting.1.load(Ordering::SeqCst))
    }

    fn slow_may_end(&self) -> bool {
        self.slow_may_end.load(Ordering::SeqCst)
    }

    /// Sequences computed so far.
    pub fn computed(&self) -> usize {
        self.computed.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        let mut gate = self.gate.0.lock().expect("no test panics here");
        gate.waiting += 1;
        self.gate.1.notify_all();
        while gate.shut {
            gate = self.gate.1.wait(gate).expect("no test panics here");
        }
        gate.waiting -= 1;
    }
}

/// A fake model and its knobs.
pub fn fake_model() -> (Model, Knobs) {
    let knobs = Knobs::default();
    (fake_model_with(knobs.clone()), knobs)
}

fn fake_model_with(knobs: Knobs) -> Model {
    let prompts = BTreeMap::from([("query".to_owned(), "search for ".to_owned())]);
    let embedding = Some(EmbeddingReadout::new(Pooling::Mean, WIDTH));
    let readouts = Readouts { embedding, ..Readouts::default() };
    let info = ModelInfo {
        family: "fake".into(),
        device: "cpu".into(),
        precision: "float32".into(),
        isa: "portable".into(),
        tokens_max: TOKENS_MAX,
        batch_tokens: BatchRows::Known(usize::MAX),
        vocabulary: VOCABULARY,
        prompts: prompts.clone(),
        special_tokens: SpecialTokens { before: vec![BEGIN], after: vec![END] },
        default_prompt_name: None,
        recipe: "fake".into(),
        listwise: false,
        media: false,
        similarity: Similarity::default(),
        scores: None,
        warnings: Vec::new(),
        capabilities: readouts.capabilities(),
    };
    Model {
        info,
        recipe: Arc::new(FakeRecipe { prompts, knobs: knobs.clone() }),
        encoder: Box::new(FakeEncoder { knobs }),
        readouts,
        device: DeviceChoice::Cpu.open(None).expect("a processor"),
    }
}

struct FakeRecipe {
    knobs: Knobs,
    prompts: BTreeMap<String, String>,
}

fn id(word: &str) -> u32 {
    match word {
        "poison" => POISON,
        "panic" => PANIC,
        "slow" => SLOW,
        "crash" => CRASH,
        word => 10 + word.bytes().fold(7, |sum, byte| (sum * 31 + u32::from(byte)) % 9_000),
    }
}

/// The words of a part. An image becomes `image:` and its size in bytes; a video becomes `video:`
/// and its sampling options, followed by the words of its files. A file with the content `broken`
/// cannot be decoded. Adjacent texts are joined, as in real vision models.
fn part(index: usize, part: &Part) -> Result<String, InputError> {
    let word = |file: &MediaFile| match file.bytes() {
        b"broken" => {
            let source = MediaError::Damaged { what: "the image", problem: "it is broken".into() };
            Err(InputError::Media { kind: "part", index, source })
        }
        bytes => Ok(format!(" image:{} ", bytes.len())),
    };
    match part {
        Part::Text(text) => Ok(text.to_string()),
        Part::Image(file) => word(file),
        Part::Video(video) => {
            let files = match &video.source {
                VideoSource::Frames(frames) => frames.iter().map(|file| word(file)).collect(),
                VideoSource::File(file) => word(file).map(|word| vec![word]),
            };
            let files = files?.join(" ");
            Ok(format!(" video:{:?}:{:?} {files} ", video.fps, video.frames_max))
        }
    }
}

impl FakeRecipe {
    /// Token ids of a text with its prompt.
    fn words(&self, text: &str, prompt: &Prompt) -> Result<Vec<u32>, InputError> {
        let text = format!("{}{text}", self.prompt(prompt)?);
        assert!(!text.contains("tokenizer bug"), "a bug of the tokenizer");
        let words = text.split_whitespace().map(id);
        Ok([BEGIN].into_iter().chain(words).chain([END]).collect())
    }

    fn check_room(&self, item: &Item) -> Result<(), InputError> {
        let mut crowded = self.knobs.crowded.lock().expect("no test panics here");
        let (times, bytes) = &mut *crowded;
        let large = |part: &Part| matches!(part, Part::Image(file) if file.bytes().len() == *bytes);
        if *times > 0 && item.parts.iter().any(large) {
            *times -= 1;
            let source = MediaError::Full { limit: 0 };
            return Err(InputError::Media { kind: "part", index: 0, source });
        }
        Ok(())
    }

    fn prompt(&self, prompt: &Prompt) -> Result<String, InputError> {
        match prompt {
            Prompt::Default | Prompt::None => Ok(String::new()),
            Prompt::FirstOf(names) => Ok(names
                .iter()
                .find_map(|name| self.prompts.get(name))
                .cloned()
                .unwrap_or_default()),
            Prompt::Instruction(text) => Ok(format!("{text} ")),
            Prompt::Named(name) => self.prompts.get(name).cloned().ok_or_else(|| {
                let known = self.prompts.keys().cloned().collect();
                InputError::UnknownPrompt { name: name.clone(), known }
            }),
        }
    }
}

impl Recipe for FakeRecipe {
    fn tokenizer(&self) -> &dyn Tokenize {
        self
    }

    fn prompts(&self) -> BTreeMap<String, String> {
        self.prompts.clone()
    }

    fn prepare_until(
        &self,
        input: &Input,
        how: &Prepare,
        cancelled: Cancelled<'_>,
    ) -> Result<Sequence, InputError> {
        if !matches!(input, Input::Content(Content::Text(text)) if &**text == "waits") {
            return self.prepare(input, how);
        }
        let (waiting, left) = &*self.knobs.waiting;
        waiting.fetch_add(1, Ordering::SeqCst);
        while !cancelled() {
            std::thread::yield_now();
        }
        left.fetch_add(1, Ordering::SeqCst);
        Err(InputError::Abandoned)
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        let mut tokens = match input {
            Input::Tokens(ids) => ids.clone(),
            Input::Pair { .. } | Input::Listwise { .. } => {
                return Err(InputError::Kind("scores nothing"));
            }
            Input::Content(Content::Item(item)) => {
                self.check_room(item)?;
                let parts = item.parts.iter().enumerate().map(|(index, sent)| part(index, sent));
                let text = parts.collect::<Result<String, InputError>>()?;
                let own = item.instruction.clone().map(Prompt::Instruction);
                self.words(&text, own.as_ref().unwrap_or(&how.prompt))?
            }
            Input::Content(Content::Text(text)) => self.words(text, &how.prompt)?,
        };
        let limit = how.tokens_max.unwrap_or(TOKENS_MAX).min(TOKENS_MAX);
        if tokens.is_empty() {
            return Err(InputError::NoTokens);
        }
        let is_cut = tokens.len() > limit;
        if is_cut {
            if !how.truncate {
                return Err(InputError::TooLong { tokens: tokens.len(), limit });
            }
            let cut = tokens.len() - limit;
            match how.side {
                TruncationSide::Own | TruncationSide::Right => {
                    tokens.drain(tokens.len() - 1 - cut..tokens.len() - 1)
                }
                TruncationSide::Left => tokens.drain(1..1 + cut),
            };
        }
        match tokens.iter().find(|id| **id as usize >= VOCABULARY) {
            Some(id) => Err(InputError::UnknownToken { id: *id, vocabulary: VOCABULARY }),
            None => Ok(Sequence { tokens, is_cut, ..Sequence::default() }),
        }
    }

    fn with_prompt(
        &self,
        text: &str,
        _special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<String, InputError> {
        Ok(format!("{}{text}", self.prompt(prompt)?))
    }
}

impl Tokenize for FakeRecipe {
    fn tokens(&self, text: &str, special_tokens: bool) -> Result<Vec<Token>, InputError> {
        let special = |id, text: &str| Token {
            id,
            text: text.into(),
            special: true,
            start: None,
            stop: None,
        };
        let mut start = 0;
        let words = text.split(' ').map(|word| {
            let token = Token {
                id: id(word),
                text: word.into(),
                special: false,
                start: Some(start),
                stop: Some(start + word.chars().count()),
            };
            start += word.chars().count() + 1;
            token
        });
        let mut tokens: Vec<Token> = words.collect();
        if special_tokens {
            tokens.insert(0, special(BEGIN, "[BEGIN]"));
            tokens.push(special(END, "[END]"));
        }
        Ok(tokens)
    }

    fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, InputError> {
        let ids = ids.iter().filter(|id| !skip_special_tokens || **id > END);
        let words: Vec<String> = ids.map(|id| format!("w{id}")).collect();
        Ok(words.join(" "))
    }

    fn id_of(&self, _token: &str) -> Option<u32> {
        None
    }

    fn special_ids(&self) -> Vec<u32> {
        vec![BEGIN, END]
    }
}

struct FakeEncoder {
    knobs: Knobs,
}

impl Encoder for FakeEncoder {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, ModelError> {
        let slow = batch.tokens().contains(&SLOW);
        self.knobs.slow_runs.fetch_or(slow, Ordering::SeqCst);
        while slow && !self.knobs.slow_may_end() {
            pause();
        }
        self.knobs.pass();
        self.knobs.crashed.fetch_or(batch.tokens().contains(&CRASH), Ordering::SeqCst);
        if self.knobs.crashed.load(Ordering::SeqCst) {
            return Err(ModelError::Msg("the device has left the bus".into()));
        }
        let memory = *self.knobs.memory.lock().expect("no test panics here");
        if memory.is_some_and(|tokens| batch.tokens().len() > tokens) {
            return Err(ModelError::Io(std::io::ErrorKind::OutOfMemory.into()));
        }
        self.knobs.batches.fetch_add(1, Ordering::SeqCst);
        self.knobs.computed.fetch_add(batch.n_sequences(), Ordering::SeqCst);
        let sequences =
            batch.segments().iter().map(|segment| batch.tokens()[segment.rows.clone()].to_vec());
        self.knobs.order.lock().expect("no test panics here").extend(sequences);
        assert!(!batch.tokens().contains(&PANIC), "a bug of the encoder");
        let rows = batch.tokens().iter().zip(batch.positions()).flat_map(|(token, position)| {
            (0..WIDTH).map(move |place| match *token {
                POISON => f32::NAN,
                token => ((token * 7 + position * 3 + place as u32 * 11) as f32).sin(),
            })
        });
        HiddenStates::from_rows(rows.collect(), WIDTH, batch)
    }
}
