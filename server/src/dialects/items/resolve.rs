//! Fetches the files of all items of a request.
//!
//! Must not know: where files come from, how items are written.

use std::fmt;
use std::sync::Arc;

use futures_util::future::try_join_all;
use proxima_models::{Content, Item, MediaFile, Part, Video, VideoSource};
use tokio::sync::Semaphore;

use super::pending::Source;
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

/// All contents with their files fetched, in order.
///
/// # Errors
/// Too many files, or the first file that cannot be fetched, by name.
pub async fn resolve(
    media: &Arc<MediaFetcher>,
    contents: Vec<(Name, Content<Source>)>,
) -> Result<Vec<Content>, Failure> {
    let files: usize = contents.iter().map(|(_, content)| content.files().count()).sum();
    if files > FILES_MAX {
        let message = format!("{files} images and frames are more than the limit of {FILES_MAX}");
        return Err(Failure::body(message));
    }
    let permits = Semaphore::new(AT_ONCE);
    let client = Scope::current().map(|scope| scope.client).unwrap_or_default();
    let files = &Files { media, permits, budget: Arc::new(media.budget(client)) };
    // A future takes kilobytes, so only items that wait for files get one.
    let mut waiting = Vec::new();
    let mut resolved = Vec::with_capacity(contents.len());
    for (index, (name, content)) in contents.into_iter().enumerate() {
        resolved.push(match content {
            Content::Text(text) => Content::Text(text),
            Content::Item(item) if item.files().next().is_none() => Content::Item(texts(&item)),
            Content::Item(item) => {
                waiting.push(async move {
                    let item = files.item(Arc::unwrap_or_clone(item)).await;
                    let item = item.map_err(|missing| missing.of(name).failure())?;
                    Ok::<_, Failure>((index, Content::Item(Arc::new(item))))
                });
                // Until its files are there.
                Content::Item(Arc::default())
            }
        });
    }
    for (index, content) in try_join_all(waiting).await? {
        resolved[index] = content;
    }
    Ok(resolved)
}

/// An item without files.
fn texts(item: &Item<Source>) -> Arc<Item> {
    let texts = item.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(Part::Text(text.clone())),
        Part::Image(_) | Part::Video(_) => None,
    });
    let (instruction, title) = (item.instruction.clone(), item.title.clone());
    Arc::new(Item { parts: texts.collect(), instruction, title })
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
    async fn item(&self, item: Item<Source>) -> Result<Item, Missing> {
        let (mut images, mut videos) = (0.., 0..);
        let parts = item.parts.into_iter().map(|part| {
            // Images and videos are numbered separately.
            let index = match part {
                Part::Text(_) => None,
                Part::Image(_) => images.next(),
                Part::Video(_) => videos.next(),
            };
            self.part(part, index.unwrap_or(0))
        });
        let parts = try_join_all(parts).await?;
        Ok(Item { parts, instruction: item.instruction, title: item.title })
    }

    async fn part(&self, part: Part<Source>, index: usize) -> Result<Part, Missing> {
        match part {
            Part::Text(text) => Ok(Part::Text(text)),
            Part::Image(source) => {
                let file = self.file(source).await;
                file.map(Part::Image).map_err(|missing| missing.of(format_args!("image {index}")))
            }
            Part::Video(video) => {
                let video = self.video(Arc::unwrap_or_clone(video)).await;
                let video = video.map_err(|missing| missing.of(format_args!("video {index}")))?;
                Ok(Part::Video(Arc::new(video)))
            }
        }
    }

    async fn video(&self, video: Video<Source>) -> Result<Video, Missing> {
        let source = match video.source {
            VideoSource::File(source) => VideoSource::File(self.file(source).await?),
            VideoSource::Frames(frames) => {
                let frame = |(index, source): (usize, Source)| async move {
                    let file = self.file(source).await;
                    file.map_err(|missing| missing.of(format_args!("frame {index}")))
                };
                let frames = frames.into_iter().enumerate().map(frame);
                VideoSource::Frames(try_join_all(frames).await?)
            }
        };
        Ok(Video { source, fps: video.fps, frames_max: video.frames_max })
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
        let decoded = tokio::task::spawn_blocking(move || media.written(&text, &budget)).await;
        decoded.unwrap_or(Err(SourceError::Undecoded)).map_err(Missing::from)
    }
}
