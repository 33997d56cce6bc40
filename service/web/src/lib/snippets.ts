/** Source code that repeats an API call in curl, Python or JavaScript. */

import type { Call } from './api';

const shell = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

export function curl(call: Call, origin: string, keyed = false): string {
  const lines = [`curl -X ${call.method} ${shell(origin + call.path)}`];
  if (keyed) lines.push(`  -H "Authorization: Bearer $NEUROND_API_KEY"`);
  if (call.body !== undefined) {
    lines.push(`  -H 'Content-Type: application/json'`, `  -d ${shell(JSON.stringify(call.body))}`);
  }
  return lines.join(' \\\n');
}

export function python(call: Call, origin: string, keyed = false): string {
  const body = call.body === undefined ? '' : `, json=json.loads(${JSON.stringify(JSON.stringify(call.body))})`;
  const headers = keyed ? `, headers={"Authorization": "Bearer " + os.environ["NEUROND_API_KEY"]}` : '';
  return [
    'import json',
    ...(keyed ? ['import os'] : []),
    'import httpx',
    '',
    `response = httpx.request(${JSON.stringify(call.method)}, ${JSON.stringify(origin + call.path)}${body}${headers})`,
    'print(response.json())',
  ].join('\n');
}

export function javascript(call: Call, origin: string, keyed = false): string {
  const options = [`method: ${JSON.stringify(call.method)}`];
  const headers = keyed ? ["Authorization: 'Bearer ' + process.env.NEUROND_API_KEY"] : [];
  if (call.body !== undefined) headers.push(`'Content-Type': 'application/json'`);
  if (headers.length) options.push(`headers: { ${headers.join(', ')} }`);
  if (call.body !== undefined) {
    options.push(
      `body: JSON.stringify(${JSON.stringify(call.body)})`,
    );
  }
  return [
    `const response = await fetch(${JSON.stringify(origin + call.path)}, {`,
    ...options.map((option) => `  ${option},`),
    '});',
    'console.log(await response.json());',
  ].join('\n');
}
