'use strict';

const sharp = require('sharp');

const SIZE_DEFAULT = 256;
const SIZE_MAX = 1024;
// Bounds the memory that a small file with a huge picture can take: an interlaced one is decoded whole,
// at up to 8 bytes a pixel.
const INPUT_PIXELS_MAX = 16_000_000;

// An instance serves one call at a time within its memory limit: no cache between calls, no second thread.
sharp.cache(false);
sharp.concurrency(1);

/**
 * Answers with a thumbnail of the image in the body, or of a drawn landscape when there is none.
 * Query parameters: `size`, the longer side in pixels; `format`, `jpeg` or `png`.
 */
exports.handler = async (event) => {
  const { size = String(SIZE_DEFAULT), format = 'jpeg' } = event.queryStringParameters ?? {};
  const pixels = /^\d{1,4}$/.test(size) ? Number(size) : 0;
  if (pixels < 1 || pixels > SIZE_MAX) {
    return refuse(`size has to be a number from 1 to ${SIZE_MAX}`);
  }
  if (format !== 'jpeg' && format !== 'png') {
    return refuse('format has to be jpeg or png');
  }
  // The platform passes every body that is no text as base64; a text is taken for base64 as well.
  const input = event.body ? Buffer.from(event.body, 'base64') : LANDSCAPE;
  let image;
  try {
    image = await thumbnail(input, pixels, format);
  } catch (e) {
    return refuse(`the body is no image that can be read: ${e.message}`);
  }
  const { width, height } = image.info;
  console.log(`${input.length} bytes in, ${image.data.length} bytes out, ${width} x ${height}`);
  return {
    statusCode: 200,
    headers: { 'content-type': `image/${format}` },
    isBase64Encoded: true,
    body: image.data.toString('base64'),
  };
};

function thumbnail(input, pixels, format) {
  const image = sharp(input, { limitInputPixels: INPUT_PIXELS_MAX })
    .autoOrient()
    .resize(pixels, pixels, { fit: 'inside', withoutEnlargement: true });
  const encoded = format === 'png' ? image.png() : image.flatten({ background: 'white' }).jpeg({ quality: 82 });
  return encoded.toBuffer({ resolveWithObject: true });
}

function refuse(error) {
  return { statusCode: 400, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ error }) };
}

const LANDSCAPE = Buffer.from(`
<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="800">
  <linearGradient id="sky" x2="0" y2="1">
    <stop offset="0" stop-color="#27346b"/>
    <stop offset=".55" stop-color="#d9707f"/>
    <stop offset=".8" stop-color="#fbc687"/>
  </linearGradient>
  <rect width="1200" height="800" fill="url(#sky)"/>
  <circle cx="820" cy="470" r="95" fill="#fff1cf"/>
  <path d="M0 560 L210 400 L400 540 L610 360 L840 560 L1010 450 L1200 580 V800 H0 Z" fill="#6d4a78"/>
  <path d="M0 660 Q220 540 470 640 T900 620 T1200 650 V800 H0 Z" fill="#44346a"/>
  <path d="M0 740 Q320 650 640 730 T1200 710 V800 H0 Z" fill="#241f47"/>
</svg>`);
