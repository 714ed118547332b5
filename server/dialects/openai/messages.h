// The conversation of a chat request: `messages` and what shapes its rendering.
#pragma once

#include "server/dialects/openai/json_body.h"
#include "server/node/generation.h"

namespace trireme::openai {

// Reads messages, add_generation_prompt, continue_final_message and chat_template_kwargs. Messages
// come out as the template sees them: {role, content[, name]} with content parts joined by line
// ends, and "developer" as "system", the role that every template knows. Images, audio, files and
// tool use are refused by name.
void ReadChatPrompt(FieldReader& fields, ChatPrompt* out);

}  // namespace trireme::openai
