//! Converts messages of multi-part inputs.
//!
//! Must not know: requests, answers, how files are fetched.

use std::sync::Arc;

use proxima_models::{Content, Item, Part, Video, VideoSource};

use crate::dialects::grpc::proto::proxima as pb;
use crate::dialects::items::{Name, Source, checked};
use crate::http::Failure;

/// The item of a message.
///
/// # Errors
/// An empty part, too many parts, or none.
pub fn item(name: Name, item: pb::Item) -> Result<Item<Source>, Failure> {
    let parts = item.parts.into_iter().enumerate().map(|(index, sent)| {
        part(sent).map_err(|problem| name.wrong(format!("part {index}: {problem}")))
    });
    let parts = parts.collect::<Result<_, Failure>>()?;
    let item = Item { parts, instruction: item.instruction, title: item.title };
    checked(item).map_err(|problem| name.wrong(problem))
}

fn part(part: pb::Part) -> Result<Part<Source>, &'static str> {
    match part.part {
        Some(pb::part::Part::Text(text)) => Ok(Part::Text(text.into())),
        Some(pb::part::Part::Image(file)) => Ok(Part::Image(source(file)?)),
        Some(pb::part::Part::Video(sent)) => Ok(Part::Video(Arc::new(video(sent)?))),
        None => Err("it has none of `text`, `image` and `video`"),
    }
}

fn source(file: pb::File) -> Result<Source, &'static str> {
    match file.source {
        Some(pb::file::Source::Bytes(bytes)) => Ok(Source::Bytes(bytes)),
        Some(pb::file::Source::Url(url)) => Ok(Source::Written(url)),
        None => Err("the file has neither `bytes` nor `url`"),
    }
}

fn video(video: pb::Video) -> Result<Video<Source>, &'static str> {
    let source = match video.source {
        Some(pb::video::Source::File(file)) => VideoSource::File(source(file)?),
        Some(pb::video::Source::Frames(frames)) if frames.files.is_empty() => {
            return Err("the video has no frames");
        }
        Some(pb::video::Source::Frames(frames)) => {
            VideoSource::Frames(frames.files.into_iter().map(source).collect::<Result<_, _>>()?)
        }
        None => return Err("the video has neither `frames` nor `file`"),
    };
    if video.fps.is_some_and(|fps| !(fps > 0.0 && fps.is_finite())) {
        return Err("`fps` must be a number above 0");
    }
    if video.max_frames == Some(0) {
        return Err("`max_frames` must be at least 1");
    }
    let frames_max = video.max_frames.map(|count| count as usize);
    Ok(Video { source, fps: video.fps, frames_max })
}

/// Takes the query out of a request, with its own instruction.
///
/// # Errors
/// The query is given in two ways, or its item is invalid.
pub fn query(
    message: &mut pb::RerankRequest,
) -> Result<(Content<Source>, Option<String>), Failure> {
    let text = std::mem::take(&mut message.query);
    let Some(item) = message.query_item.take() else {
        return Ok((text.into(), None));
    };
    if !text.is_empty() {
        return Err(Failure::body("send either `query` or `query_item`, not both"));
    }
    let mut query = self::item(Name::Query, item)?;
    let instruction = query.instruction.take();
    Ok((query.into(), instruction))
}

/// Takes the documents out of a request.
///
/// # Errors
/// The documents are given in two ways, or an item is invalid.
pub fn documents(message: &mut pb::RerankRequest) -> Result<Vec<(Name, Content<Source>)>, Failure> {
    let texts = std::mem::take(&mut message.documents);
    let items = std::mem::take(&mut message.document_items);
    if !texts.is_empty() && !items.is_empty() {
        return Err(Failure::body("send either `documents` or `document_items`, not both"));
    }
    let names = (0..).map(Name::Document);
    if items.is_empty() {
        return Ok(names.zip(texts.into_iter().map(Content::from)).collect());
    }
    names.zip(items).map(|(name, document)| Ok((name, item(name, document)?.into()))).collect()
}

/// The texts of a request's documents, text parts joined by newlines; `None` for one without text.
pub fn texts(message: &pb::RerankRequest) -> Vec<Option<String>> {
    let items = message.document_items.iter().map(|item| {
        let texts = item.parts.iter().filter_map(|part| match &part.part {
            Some(pb::part::Part::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        let texts: Vec<&str> = texts.collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    });
    message.documents.iter().cloned().map(Some).chain(items).collect()
}
