//! Fetches the files of all items of a request.
//!
//! Must not know: where files come from, how items are written.

use std::fmt;
use std::sync::Arc;

use futures_util::future::try_join_all;
use proxima_models::{Content, Input, Item, MediaFile, Part, Video, VideoSource};
use tokio::sync::Semaphore;

use super::draft::{Draft, DraftFrames, DraftPart, DraftVideo, Drafted, Source};
use crate::http::{Failure, Scope};
use crate::media::{MediaBudget, MediaFetcher, SourceError, SourceFault, address};

/// Maximum files of one request, counting each frame of a video.
const FILES_MAX: usize = 4096;
/// Files of one request that are fetched concurrently.
const AT_ONCE: usize = 16;
/// Bytes of base64 above which it is decoded on another thread.
const OFF_LOOP_BYTES: usize = 64 * 1024;

/// How errors name an input of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// One of several inputs, by its index from 0.
    Input(usize),
    /// The query.
    Query,
    /// One of several queries.
    QueryOf(usize),
    /// A document.
    Document(usize),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(index) => write!(f, "input {index}"),
            Self::Query => f.write_str("the query"),
            Self::QueryOf(index) => write!(f, "query {index}"),
            Self::Document(index) => write!(f, "document {index}"),
        }
    }
}

impl Name {
    /// A failure of the input with this name.
    pub fn wrong(self, problem: impl fmt::Display) -> Failure {
        Failure::body(format!("{self}: {problem}"))
    }
}

/// Types that can be made from an item whose files are fetched.
pub trait OfItem {
    /// See [`OfItem`].
    fn of_item(item: Item) -> Self;
}

impl OfItem for Input {
    fn of_item(item: Item) -> Self {
        Self::Item(Arc::new(item))
    }
}

impl OfItem for Content {
    fn of_item(item: Item) -> Self {
        item.into()
    }
}

/// All drafts with their files fetched, in order.
///
/// # Errors
/// Too many files, or the first file that cannot be fetched, by name.
pub async fn resolve<T: OfItem>(
    media: &Arc<MediaFetcher>,
    drafts: Vec<(Name, Drafted<T>)>,
) -> Result<Vec<T>, Failure> {
    if !drafts.iter().any(|(_, draft)| matches!(draft, Drafted::Item(_))) {
        // Texts only, of which there may be many: no futures for them.
        let ready = |(_, draft)| match draft {
            Drafted::Ready(ready) => Some(ready),
            Drafted::Item(_) => None,
        };
        return Ok(drafts.into_iter().filter_map(ready).collect());
    }
    let files = drafts.iter().map(|(_, draft)| match draft {
        Drafted::Ready(_) => 0,
        Drafted::Item(draft) => draft.files(),
    });
    let files: usize = files.sum();
    if files > FILES_MAX {
        let message = format!("{files} images and frames are more than the limit of {FILES_MAX}");
        return Err(Failure::body(message));
    }
    let permits = Semaphore::new(AT_ONCE);
    let client = Scope::current().map(|scope| scope.client).unwrap_or_default();
    let files = &Files { media, permits, budget: Arc::new(media.budget(client)) };
    // A future takes kilobytes, so only items that wait for files get one.
    let mut waiting = Vec::new();
    let mut done = Vec::with_capacity(drafts.len());
    for (at, (name, draft)) in drafts.into_iter().enumerate() {
        done.push(match draft {
            Drafted::Ready(ready) => Some(ready),
            Drafted::Item(draft) if draft.files() == 0 => Some(T::of_item(texts(draft))),
            Drafted::Item(draft) => {
                waiting.push(async move {
                    let item = files.item(draft).await.map(T::of_item);
                    item.map(|item| (at, item)).map_err(|missing| missing.of(name).failure())
                });
                None
            }
        });
    }
    for (at, item) in try_join_all(waiting).await? {
        done[at] = Some(item);
    }
    Ok(done.into_iter().flatten().collect())
}

/// An item without files.
fn texts(draft: Draft) -> Item {
    let text = |part| match part {
        DraftPart::Text(text) => Some(Part::Text(text.into())),
        DraftPart::Image(_) | DraftPart::Video(_) => None,
    };
    let parts = draft.parts.into_iter().filter_map(text).collect();
    Item { parts, instruction: draft.instruction }
}

struct Files<'a> {
    media: &'a Arc<MediaFetcher>,
    permits: Semaphore,
    budget: Arc<MediaBudget>,
}

/// A file that cannot be fetched.
struct Missing {
    problem: String,
    fault: SourceFault,
}

impl Missing {
    /// The same, with a name in front of the problem.
    fn of(self, name: impl fmt::Display) -> Self {
        Self { problem: format!("{name}: {}", self.problem), ..self }
    }

    fn failure(self) -> Failure {
        let message = self.problem;
        match self.fault {
            SourceFault::Caller => Failure::body(message),
            SourceFault::Elsewhere => Failure::Upstream { message },
            SourceFault::Server => Failure::Busy { message },
        }
    }
}

impl From<SourceError> for Missing {
    fn from(error: SourceError) -> Self {
        Self { problem: error.to_string(), fault: error.fault() }
    }
}

impl Files<'_> {
    async fn item(&self, draft: Draft) -> Result<Item, Missing> {
        let (mut images, mut videos) = (0.., 0..);
        let parts = draft.parts.into_iter().map(|part| {
            // Images and videos are numbered separately.
            let place = match part {
                DraftPart::Text(_) => None,
                DraftPart::Image(_) => images.next(),
                DraftPart::Video(_) => videos.next(),
            };
            self.part(part, place.unwrap_or(0))
        });
        Ok(Item { parts: try_join_all(parts).await?, instruction: draft.instruction })
    }

    async fn part(&self, part: DraftPart, place: usize) -> Result<Part, Missing> {
        match part {
            DraftPart::Text(text) => Ok(Part::Text(text.into())),
            DraftPart::Image(source) => {
                let file = self.file(source).await;
                file.map(Part::Image).map_err(|missing| missing.of(format_args!("image {place}")))
            }
            DraftPart::Video(video) => {
                let video = self.video(video).await;
                let video = video.map_err(|missing| missing.of(format_args!("video {place}")))?;
                Ok(Part::Video(Arc::new(video)))
            }
        }
    }

    async fn video(&self, video: DraftVideo) -> Result<Video, Missing> {
        let source = match video.source {
            DraftFrames::File(source) => VideoSource::File(self.file(source).await?),
            DraftFrames::Frames(frames) => {
                let frame = |(place, source): (usize, Source)| async move {
                    let file = self.file(source).await;
                    file.map_err(|missing| missing.of(format_args!("frame {place}")))
                };
                let frames = frames.into_iter().enumerate().map(frame);
                VideoSource::Frames(try_join_all(frames).await?)
            }
        };
        Ok(Video { source, fps: video.sampling.fps, frames_max: video.sampling.frames_max })
    }

    async fn file(&self, source: Source) -> Result<Arc<MediaFile>, Missing> {
        // The semaphore is never closed; an error would only mean more concurrent fetches.
        let _permit = self.permits.acquire().await.ok();
        let (media, budget) = (self.media, &self.budget);
        let text = match source {
            Source::Bytes(bytes) => return Ok(media.bytes(bytes, budget)?),
            Source::Written(text) => text,
        };
        if let Some(address) = address(&text) {
            return Ok(media.fetched(address, budget).await?);
        }
        if text.len() <= OFF_LOOP_BYTES {
            return Ok(media.written(&text, budget)?);
        }
        let (media, budget) = (media.clone(), budget.clone());
        let decode = move || media.written(&text, &budget);
        let decoded = tokio::task::spawn_blocking(decode).await;
        decoded.unwrap_or(Err(SourceError::Undecoded)).map_err(Missing::from)
    }
}
